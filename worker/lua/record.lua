-- Records one event of a call, once; makes the call due now and wakes a clock.
-- Repeating it is harmless: an id, or a nonce with the same body, that is already known changes nothing.
local call, due, leases, recordings, recent, wake = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5], KEYS[6]
local nonces, nonces_before, aliases = KEYS[7], KEYS[8], KEYS[9]
local obligation, id, event, nonce, body = ARGV[1], ARGV[2], ARGV[3], ARGV[4], ARGV[5]
local recording, call_uuid, repeat_after_ms, alias_list = ARGV[6], ARGV[7], tonumber(ARGV[8]), ARGV[9]
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)

if nonce ~= '' then
  local seen = redis.call('HGET', nonces, nonce) or redis.call('HGET', nonces_before, nonce)
  if seen then return {seen == body and 'repeat' or 'nonce', now} end
  redis.call('HSET', nonces, nonce, body)
  redis.call('EXPIRE', nonces, 7300)
end
if id == '' then return {'noted', now} end

local log = redis.call('GET', call) or ''
local _, _, last = string.find('\n' .. log, '\n' .. string.gsub(id, '%p', '%%%0') .. ' (%d+) ')
if last and repeat_after_ms > 0 then
  -- Some events look the same each time they really happen; a provider's retries are over within minutes.
  for at in string.gmatch('\n' .. log, '\n' .. id .. '%.%d+ (%d+) ') do last = at end
  if now - tonumber(last) >= repeat_after_ms then
    id = id .. '.' .. now
    last = nil
  end
end
if last then return {'repeat', now} end
redis.call('SET', call, log .. id .. ' ' .. now .. ' ' .. event .. '\n')   -- exact size; APPEND would reserve twice
if recording ~= '' then
  redis.call('HSETNX', recordings, recording, call_uuid)
  redis.call('ZADD', recent, 'NX', now, recording)
end
for alias in string.gmatch(alias_list, '%S+') do redis.call('HSET', aliases, alias, call_uuid) end
-- Whoever holds the call now compares the size of its log when it is done, and comes back.
local lease = redis.call('ZSCORE', leases, obligation)
if not lease or tonumber(lease) <= now then
  redis.call('ZADD', due, 'LT', now, obligation)
  if redis.call('LLEN', wake) < 16 then redis.call('RPUSH', wake, 1) end
end
return {'new', now}
