-- Deletes leases, fences and counts of those obligations that are owed no longer. Owed ones keep everything.
local due, leases, fences, unfinished = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
for _, obligation in ipairs(ARGV) do
  if not redis.call('ZSCORE', due, obligation) then
    redis.call('ZREM', leases, obligation)
    redis.call('HDEL', fences, obligation)
    redis.call('HDEL', unfinished, obligation)
  end
end
