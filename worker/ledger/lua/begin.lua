-- Work begins on what was claimed: its lease starts anew, so that waiting in a queue costs nothing of it, and what was left
-- unfinished before is counted, now, before whatever ends the worker. A claim that went to another is told by a nil: its
-- message came too late, and somebody else does the work.
local fences, unfinished = KEYS[1], KEYS[2]
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local found = {time[1], time[2]}
for i = 0, (#KEYS - 2) / 3 - 1 do
  local due, leases, log = KEYS[3 + 3 * i], KEYS[4 + 3 * i], KEYS[5 + 3 * i]
  local obligation, fence, lease_ms = ARGV[1 + 3 * i], ARGV[2 + 3 * i], tonumber(ARGV[3 + 3 * i])
  if redis.call('HGET', fences, obligation) == fence then
    redis.call('ZADD', leases, now + lease_ms, obligation)
    redis.call('ZADD', due, 'GT', now + lease_ms, obligation)      -- what ended its worker before is due later than that
    if redis.call('HEXISTS', unfinished, obligation) == 1 then redis.call('HINCRBY', unfinished, obligation, 1) end
    found[#found + 1] = redis.call('GET', log) or ''
  else
    found[#found + 1] = false
  end
end
return found
