-- Claims what is due within the lead: a fresh fence and a lease for each, and its score moved to the lease's end.
-- Nothing is taken out, so whatever dies now, the lease runs out and it is due again.
local due, fence, fences = KEYS[1], KEYS[2], KEYS[3]
local leases = {stop = KEYS[4], look = KEYS[5], fetch = KEYS[6]}
local lead_ms, lease_ms, batch = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])
local free = {stop = tonumber(ARGV[4]), look = tonumber(ARGV[5]), fetch = tonumber(ARGV[6])}
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)

for kind, key in pairs(leases) do
  free[kind] = free[kind] - redis.call('ZCOUNT', key, '(' .. now, '+inf')
end
local claimed = {}
for _, obligation in ipairs(redis.call('ZRANGEBYSCORE', due, '-inf', now + lead_ms, 'LIMIT', 0, batch)) do
  local kind = string.match(obligation, '^(%a+)|')
  if free[kind] > 0 then
    free[kind] = free[kind] - 1
    local token = redis.call('INCR', fence)
    redis.call('HSET', fences, obligation, token)
    redis.call('ZADD', leases[kind], now + lease_ms, obligation)
    redis.call('ZADD', due, now + lease_ms, obligation)
    claimed[#claimed + 1] = {obligation, token}
  else
    -- Nobody free to do it: out of the way of the others for a moment.
    redis.call('ZADD', due, now + 500, obligation)
  end
end
local earliest = redis.call('ZRANGE', due, 0, 0, 'WITHSCORES')
return {now, claimed, earliest[2] or ''}
