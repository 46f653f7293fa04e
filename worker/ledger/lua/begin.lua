-- Begins work on claims. The lease starts anew, so time in a queue costs nothing of it. Tries that were unfinished
-- before are counted now, before anything can end this worker. The answer has an entry for each claim: the call's
-- log, or nil if another worker has the claim by now because the message came too late.
local fences, unfinished = KEYS[1], KEYS[2]
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local answer = {time[1], time[2]}
for i = 0, (#KEYS - 2) / 3 - 1 do
  local due, leases, log = KEYS[3 + 3 * i], KEYS[4 + 3 * i], KEYS[5 + 3 * i]
  local obligation, fence, lease_ms = ARGV[1 + 3 * i], ARGV[2 + 3 * i], tonumber(ARGV[3 + 3 * i])
  if redis.call('HGET', fences, obligation) == fence then
    redis.call('ZADD', leases, now + lease_ms, obligation)
    redis.call('ZADD', due, 'GT', now + lease_ms, obligation)      -- GT: after unfinished tries it may be due later
    if redis.call('HEXISTS', unfinished, obligation) == 1 then redis.call('HINCRBY', unfinished, obligation, 1) end
    answer[#answer + 1] = redis.call('GET', log) or ''
  else
    answer[#answer + 1] = false
  end
end
return answer
