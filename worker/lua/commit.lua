-- Ends a lease: records what was found out and sets what is due next. Refuses when the lease went to another or ran out.
local call, due, fences, lease, recordings, recent, wake = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5], KEYS[6], KEYS[7]
local stop_leases, look_leases, fetch_leases = KEYS[8], KEYS[9], KEYS[10]
local obligation, fence, call_uuid = ARGV[1], ARGV[2], ARGV[3]
local seen, keep_s, events, dues = tonumber(ARGV[4]), tonumber(ARGV[5]), tonumber(ARGV[6]), tonumber(ARGV[7])
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)

local until_ms = redis.call('ZSCORE', lease, obligation)
if redis.call('HGET', fences, obligation) ~= fence or not until_ms or tonumber(until_ms) <= now then return {'stale'} end
redis.call('HDEL', fences, obligation)
redis.call('ZREM', lease, obligation)

local log = redis.call('GET', call) or ''
local newer = #log ~= seen
local new, at = {}, 8
for _ = 1, events do
  local id, event, recording = ARGV[at], ARGV[at + 1], ARGV[at + 2]
  at = at + 3
  if not string.find('\n' .. log, '\n' .. id .. ' ', 1, true) then
    log = log .. id .. ' ' .. now .. ' ' .. event .. '\n'
    new[#new + 1] = id
  end
  if recording ~= '' then
    redis.call('HSETNX', recordings, recording, call_uuid)
    redis.call('ZADD', recent, 'NX', now, recording)
  end
end
if #new > 0 then redis.call('SET', call, log) end
local kinds = {stop = stop_leases, look = look_leases, fetch = fetch_leases}
for _ = 1, dues do
  local other, instant = ARGV[at], ARGV[at + 1]
  at = at + 2
  local held = redis.call('ZSCORE', kinds[string.match(other, '^(%a+)|')], other)
  if not held or tonumber(held) <= now then
    if instant == 'now' then redis.call('ZADD', due, 'LT', now, other)
    elseif instant == '' then redis.call('ZREM', due, other)
    else redis.call('ZADD', due, instant, other) end
  end
end
if newer then redis.call('ZADD', due, now, obligation) end
if keep_s > 0 and not newer then redis.call('EXPIRE', call, keep_s) else redis.call('PERSIST', call) end
if redis.call('LLEN', wake) < 16 then redis.call('RPUSH', wake, 1) end
return {'ok', new}
