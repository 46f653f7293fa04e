-- Claims the first obligation of a duty that is due, for a worker that has finished another one of that duty, and begins
-- work on it. Claims none where as many are outstanding as may be, or where the first was claimed before and never
-- finished: a clock sees to that one. The answer: the time, the obligation, its fence, and the log of its call.
local due, leases, fence, fences = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local lease_ms, most, calls = tonumber(ARGV[1]), tonumber(ARGV[2]), ARGV[3]
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local owed = redis.call('ZRANGEBYSCORE', due, '-inf', now, 'LIMIT', 0, 1)[1]
if not owed or redis.call('HEXISTS', fences, owed) == 1 or redis.call('ZCOUNT', leases, '(' .. now, '+inf') >= most then return {} end
local token = redis.call('INCR', fence)
redis.call('HSET', fences, owed, token)
redis.call('ZADD', leases, now + lease_ms, owed)
redis.call('ZADD', due, now + lease_ms, owed)
local account, call_uuid = string.match(owed, '^%a+|([^|]+)|([^|]+)')
return {time[1], time[2], owed, token, redis.call('GET', calls .. account .. ':' .. call_uuid) or ''}
