-- Puts another log in the place of a call's log, where that is still the one that was read. Its expiry stays.
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
redis.call('SET', KEYS[1], ARGV[2], 'KEEPTTL')
return 1
