-- Claims obligations that are due within the lead. Each gets a new fence and a lease, and its score moves to the end of
-- the lease. Nothing is removed: if the worker dies, the lease ends and the obligation is due again. Each duty has a
-- sorted set of its own, so a stop never waits behind fetches that find no free slot.
-- A fence that is still there means that the last claim was never finished; begin.lua counts that. After several
-- unfinished tries the obligation comes back later each time: a plan or a survey within a minute at most, a look or a
-- fetch is set aside for hours in the end.
-- Workers claim the plans themselves, a few at a time, when they get a hint, and get the logs with them: work begins at
-- once. What was unfinished before is begun by begin.lua, which counts that. A clock, which claims no plans, sees to it
-- that there are hints while plans are due, and writes down how early something new must be due to wake it.
local fence, fences, unfinished, generation, wake, hints, hinted, looking, plans = unpack(KEYS)
local lead_ms, batch = tonumber(ARGV[1]), tonumber(ARGV[2])
local alone_after, aside_after, longest_ms, aside_ms = tonumber(ARGV[3]), tonumber(ARGV[4]), tonumber(ARGV[5]), tonumber(ARGV[6])
local is_clock, takes_plans, most_hints, for_a_hint = ARGV[7] == '1', ARGV[8] == '1', tonumber(ARGV[9]), tonumber(ARGV[10])
local calls = ARGV[11]      -- the beginning of the names of the calls' logs
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local claimed, next_at, blocked = {}, nil, false

local function wait_ms(obligation, tries, lease_ms)
  if tries < alone_after then return lease_ms end
  local kind = string.match(obligation, '^%a+')
  if tries >= aside_after and (kind == 'look' or kind == 'fetch') then return aside_ms end
  return math.min(lease_ms * 2 ^ (tries - alone_after), math.max(longest_ms, lease_ms))
end

local function come_back(instant)
  if instant and (not next_at or instant < next_at) then next_at = instant end
end

if is_clock then redis.call('DEL', wake) end      -- what was to be looked at is looked at now
for i = 0, (#KEYS - 9) / 2 - 1 do
  local due, leases = KEYS[10 + 2 * i], KEYS[11 + 2 * i]
  local lease_ms = tonumber(ARGV[13 + 2 * i])
  local free = tonumber(ARGV[12 + 2 * i]) - redis.call('ZCOUNT', leases, '(' .. now, '+inf')
  local taken = math.max(0, math.min(free, batch))
  if taken > 0 then
    for _, obligation in ipairs(redis.call('ZRANGEBYSCORE', due, '-inf', now + lead_ms, 'LIMIT', 0, taken)) do
      local token, tries = redis.call('INCR', fence), 0
      if redis.call('HSET', fences, obligation, token) == 0 then
        redis.call('HSETNX', unfinished, obligation, 0)
        tries = redis.call('HGET', unfinished, obligation) + 1
      end
      redis.call('ZADD', leases, now + lease_ms, obligation)
      redis.call('ZADD', due, math.floor(now + wait_ms(obligation, tries, lease_ms)), obligation)
      local log = false
      if not is_clock and tries == 0 then log = redis.call('GET', calls .. string.gsub(string.sub(obligation, 6), '|', ':')) or '' end
      claimed[#claimed + 1] = {obligation, token, tries, log}
    end
  end
  local earliest = tonumber(redis.call('ZRANGE', due, 0, 0, 'WITHSCORES')[2])
  -- No slot is free for what is due already: the clock looks again in half a second, or when work is committed.
  if earliest and earliest <= now + lead_ms and free <= taken then earliest, blocked = now + lead_ms + 500, true end
  come_back(earliest)
end
local waiting, wanted = redis.call('ZCOUNT', plans, '-inf', now + lead_ms), 0
if not takes_plans then
  wanted = math.min(most_hints, math.ceil(waiting / for_a_hint))
  -- Whoever took a hint may have died: the clock looks whether these are still due.
  if waiting > 0 then come_back(now + lead_ms + 250) end
  come_back(tonumber(redis.call('ZRANGEBYSCORE', plans, '(' .. now + lead_ms, '+inf', 'WITHSCORES', 'LIMIT', 0, 1)[2]))
elseif waiting == 0 then redis.call('DEL', hints, hinted)
elseif #claimed > 0 then wanted = 1 end      -- else as many are at work as may be; the clock gives the next hint
for _ = redis.call('LLEN', hints) + 1, wanted do redis.call('RPUSH', hints, takes_plans and 'now' or 'soon') end
if is_clock then
  redis.call('SET', looking, blocked and 'any' or tostring(math.min(next_at or now + 1000, now + lead_ms + 1000)))
end
return {string.format('%.3f', time[1] * 1000 + time[2] / 1000), claimed, next_at and tostring(next_at) or '', redis.call('GET', generation) or '0'}
