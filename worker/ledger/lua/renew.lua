-- Extends a lease. Returns 0 if the lease ran out or another worker has it.
local due, fences, lease = KEYS[1], KEYS[2], KEYS[3]
local obligation, fence, lease_ms = ARGV[1], ARGV[2], tonumber(ARGV[3])
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local until_ms = redis.call('ZSCORE', lease, obligation)
if redis.call('HGET', fences, obligation) ~= fence or not until_ms or tonumber(until_ms) <= now then return 0 end
redis.call('ZADD', lease, now + lease_ms, obligation)
redis.call('ZADD', due, 'GT', now + lease_ms, obligation)      -- GT: after unfinished tries it may be due later
return 1
