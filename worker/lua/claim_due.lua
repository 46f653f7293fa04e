-- Claims what is due within the lead: a fresh fence and a lease for each, and its score moved to the lease's end.
-- Nothing is taken out, so whatever dies now, the lease runs out and it is due again. Each duty waits in a set of its
-- own: however many fetches find no free slot, a stop never stands behind them.
local fence, fences = KEYS[1], KEYS[2]
local lead_ms, lease_ms, batch = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local claimed, next_at = {}, nil

for i = 0, (#KEYS - 2) / 2 - 1 do
  local due, leases = KEYS[3 + 2 * i], KEYS[4 + 2 * i]
  local free = tonumber(ARGV[4 + i]) - redis.call('ZCOUNT', leases, '(' .. now, '+inf')
  local taken = math.max(0, math.min(free, batch))
  if taken > 0 then
    for _, obligation in ipairs(redis.call('ZRANGEBYSCORE', due, '-inf', now + lead_ms, 'LIMIT', 0, taken)) do
      local token = redis.call('INCR', fence)
      redis.call('HSET', fences, obligation, token)
      redis.call('ZADD', leases, now + lease_ms, obligation)
      redis.call('ZADD', due, now + lease_ms, obligation)
      claimed[#claimed + 1] = {obligation, token}
    end
  end
  local earliest = tonumber(redis.call('ZRANGE', due, 0, 0, 'WITHSCORES')[2])
  -- Nobody is free for what is due already: a lease that ends wakes the clock, and so does this moment.
  if earliest and earliest <= now + lead_ms and free <= taken then earliest = now + lead_ms + 500 end
  if earliest and (not next_at or earliest < next_at) then next_at = earliest end
end
return {now, claimed, next_at and tostring(next_at) or ''}
