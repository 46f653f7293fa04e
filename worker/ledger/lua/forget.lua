-- Deletes what points to calls whose logs have expired: recordings (KEYS[1], and their order in KEYS[2] and KEYS[4]) and legs (KEYS[3]).
-- ARGV holds `r` or `l` and the name of each; KEYS[5] and later hold the logs of their calls. Returns how many
-- recordings were deleted.
local recordings, recent, legs, live, gone = KEYS[1], KEYS[2], KEYS[3], KEYS[4], 0
for i = 1, #ARGV / 2 do
  local sort, name = ARGV[2 * i - 1], ARGV[2 * i]
  if redis.call('EXISTS', KEYS[i + 4]) == 0 then
    if sort == 'r' then
      redis.call('ZREM', recent, name)
      redis.call('ZREM', live, name)
      gone = gone + redis.call('HDEL', recordings, name)
    else
      redis.call('HDEL', legs, name)
    end
  end
end
return gone
