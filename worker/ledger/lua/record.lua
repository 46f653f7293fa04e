-- Records one event of a call, once; makes the call due now and gives the workers a hint.
-- Repeating it is harmless: a known id changes nothing, nor does a known nonce with the same body.
local call, due, leases, recordings, recent, hints, aliases, metrics, listeners, live, hinted, news = unpack(KEYS, 1, 12)
local obligation, id, event, body = ARGV[1], ARGV[2], ARGV[3], ARGV[4]
local recording, call_uuid, repeat_after_ms, alias_list = ARGV[5], ARGV[6], tonumber(ARGV[7]), ARGV[8]
local kind, first_seen_ms = ARGV[9], ARGV[10]
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)

-- A request may carry two nonces, one for each signature. Both are stored; if either is known, the request is one
-- that came before.
local known = false
for i = 11, #ARGV do
  local place, place_before = KEYS[2 * i - 9], KEYS[2 * i - 8]
  local seen = redis.call('HGET', place, ARGV[i]) or redis.call('HGET', place_before, ARGV[i])
  if seen and seen ~= body then return {'nonce', now} end
  known = known or seen
end
if known then return {'repeat', now} end
for i = 11, #ARGV do
  redis.call('HSET', KEYS[2 * i - 9], ARGV[i], body)
  redis.call('EXPIRE', KEYS[2 * i - 9], 7300)
end
if id == '' then return {'noted', now} end

local log = redis.call('GET', call) or ''
local _, _, last = string.find('\n' .. log, '\n' .. string.gsub(id, '%p', '%%%0') .. ' (%d+) ')
if last and repeat_after_ms > 0 then
  -- Two events that look alike may both have happened. One within `repeat_after_ms` of the other is a provider's retry.
  for at in string.gmatch('\n' .. log, '\n' .. id .. '%.%d+ (%d+) ') do last = at end
  if now - tonumber(last) >= repeat_after_ms then
    id = id .. '.' .. now
    last = nil
  end
end
if last then return {'repeat', now} end
redis.call('HINCRBYFLOAT', metrics, 'events_total|' .. kind, 1)
redis.call('SET', call, log .. id .. ' ' .. now .. ' ' .. event .. '\n')   -- takes exactly its size; APPEND would reserve twice as much
if recording ~= '' then
  local first_ms = first_seen_ms ~= '' and first_seen_ms or now
  redis.call('HSETNX', recordings, recording, call_uuid)
  if redis.call('ZADD', recent, 'NX', first_ms, recording) == 1 then redis.call('ZADD', live, first_ms, recording) end
end
for alias in string.gmatch(alias_list, '%S+') do redis.call('HSET', aliases, alias, call_uuid) end
-- A worker that holds the call compares the size of the log when it commits, and plans again.
local lease = redis.call('ZSCORE', leases, obligation)
if not lease or tonumber(lease) <= now then
  redis.call('ZADD', due, 'LT', now, obligation)
  -- A signed callback may wait a moment for company. An order may not: somebody waits for it.
  if redis.call('SET', hinted, 1, 'NX', 'PX', 250) then redis.call('RPUSH', hints, #ARGV > 10 and 'soon' or 'now')
  elseif #ARGV == 10 and redis.call('LLEN', hints) < 4 then redis.call('RPUSH', hints, 'now') end
end
for _, channel in ipairs(redis.call('SMEMBERS', listeners)) do redis.call('PUBLISH', channel, call) end
redis.call('PUBLISH', news, call)
return {'new', now}
