-- Claims obligations that are due within the lead. Each gets a new fence and a lease, and its score moves to the end of
-- the lease. Nothing is removed: if the worker dies, the lease ends and the obligation is due again. Each duty has a
-- sorted set of its own, so a stop never waits behind fetches that find no free slot.
-- A fence that is still there means that the last claim was never finished; begin.lua counts that. After several
-- unfinished tries the obligation comes back later each time: a plan or a survey within a minute at most, a look or a
-- fetch is set aside for hours in the end.
local fence, fences, unfinished, wake = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local lead_ms, batch = tonumber(ARGV[1]), tonumber(ARGV[2])
local alone_after, aside_after, longest_ms, aside_ms = tonumber(ARGV[3]), tonumber(ARGV[4]), tonumber(ARGV[5]), tonumber(ARGV[6])
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local claimed, next_at = {}, nil

local function wait_ms(obligation, tries, lease_ms)
  if tries < alone_after then return lease_ms end
  local kind = string.match(obligation, '^%a+')
  if tries >= aside_after and (kind == 'look' or kind == 'fetch') then return aside_ms end
  return math.min(lease_ms * 2 ^ (tries - alone_after), math.max(longest_ms, lease_ms))
end

redis.call('DEL', wake)      -- what was to be looked at is looked at now
for i = 0, (#KEYS - 4) / 2 - 1 do
  local due, leases = KEYS[5 + 2 * i], KEYS[6 + 2 * i]
  local lease_ms = tonumber(ARGV[8 + 2 * i])
  local free = tonumber(ARGV[7 + 2 * i]) - redis.call('ZCOUNT', leases, '(' .. now, '+inf')
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
      claimed[#claimed + 1] = {obligation, token, tries}
    end
  end
  local earliest = tonumber(redis.call('ZRANGE', due, 0, 0, 'WITHSCORES')[2])
  -- No slot is free for what is due already: the clock looks again in half a second, or when work is committed.
  if earliest and earliest <= now + lead_ms and free <= taken then earliest = now + lead_ms + 500 end
  if earliest and (not next_at or earliest < next_at) then next_at = earliest end
end
return {now, claimed, next_at and tostring(next_at) or ''}
