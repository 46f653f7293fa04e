-- A token bucket that all processes share. Grants up to `wanted` requests, and returns how many, and after how many
-- milliseconds the next one is free. The fifth argument:
--   a number  how many callers will come back. Each gets a later time slot than the callers before, so that a backlog
--             does not ask all at once, again and again.
--   `owe`     take the tokens even if none are left; the bucket goes negative and later callers wait.
--   `cut`     the provider answered 429: halve the rate. It recovers within `recover_ms`.
-- A second key: nothing is granted while it exists, and the answer has a third number then.
local bucket = KEYS[1]
if KEYS[2] and redis.call('EXISTS', KEYS[2]) == 1 then return {0, 0, 1} end
local wanted, rate, burst, recover_ms = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[4])
local cut, owe, queue = ARGV[5] == 'cut', ARGV[5] == 'owe', tonumber(ARGV[5]) or 0
local time = redis.call('TIME')
local now = time[1] * 1000 + time[2] / 1000
local stored = redis.call('HMGET', bucket, 'tokens', 'at', 'limit', 'cut_at', 'queue_at')
local tokens, at = tonumber(stored[1]) or burst, tonumber(stored[2]) or now
local limit, cut_at = tonumber(stored[3]) or rate, tonumber(stored[4]) or 0
limit = math.min(rate, limit + (rate - limit) * math.min(1, (now - cut_at) / recover_ms))
if cut then
  if now - cut_at < 1000 then return {0, 0} end   -- several 429 within a second halve it once
  redis.call('HSET', bucket, 'limit', math.max(1, limit / 2), 'cut_at', now)
  redis.call('PEXPIRE', bucket, recover_ms + 60000)
  return {0, 0}
end
tokens = math.min(burst, tokens + (now - at) / 1000 * limit)
local granted = owe and wanted or math.max(0, math.min(wanted, math.floor(tokens)))
tokens = tokens - granted
redis.call('HSET', bucket, 'tokens', tostring(tokens), 'at', tostring(now))
redis.call('PEXPIRE', bucket, recover_ms + 60000)
local next_at = now + math.max(0, 1 - tokens) / limit * 1000
if queue > 0 then
  next_at = math.max(next_at, tonumber(stored[5]) or 0)
  redis.call('HSET', bucket, 'queue_at', tostring(next_at + queue / limit * 1000))
end
return {granted, math.ceil(next_at - now)}
