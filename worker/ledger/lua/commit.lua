-- Ends a lease: writes the events that the work found, and sets when obligations are due next. Refuses if the lease ran
-- out or another worker has it. If the log grew since the worker read it, or a reload came after the settings that it
-- planned with, the obligation is due again now.
local call, fences, recordings, recent, wake, listeners = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5], KEYS[6]
local unfinished, generation, live = KEYS[7], KEYS[8], KEYS[9]
local due, leases = {}, {}      -- by duty, the last part of their names
for i = 10, #KEYS, 2 do
  local duty = string.match(KEYS[i], '(%a+)$')
  due[duty], leases[duty] = KEYS[i], KEYS[i + 1]
end
local obligation, fence, call_uuid = ARGV[1], ARGV[2], ARGV[3]
local seen, keep_s, events, dues = tonumber(ARGV[4]), tonumber(ARGV[5]), tonumber(ARGV[6]), tonumber(ARGV[7])
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)

local kind = string.match(obligation, '^(%a+)|')
local until_ms = redis.call('ZSCORE', leases[kind], obligation)
if redis.call('HGET', fences, obligation) ~= fence or not until_ms or tonumber(until_ms) <= now then return {'stale'} end
redis.call('HDEL', fences, obligation)
redis.call('HDEL', unfinished, obligation)      -- earlier tries count no longer
redis.call('ZREM', leases[kind], obligation)

local log = redis.call('GET', call) or ''
local reloaded = ARGV[8] ~= '' and ARGV[8] ~= (redis.call('GET', generation) or '0')
local newer, text = #log ~= seen or reloaded, '\n' .. log
local new, lines, known, at = {}, {}, {}, 9
for _ = 1, events do
  local id, event, recording = ARGV[at], ARGV[at + 1], ARGV[at + 2]
  at = at + 3
  if not known[id] and not string.find(text, '\n' .. id .. ' ', 1, true) then
    known[id] = true
    new[#new + 1] = id
    lines[#lines + 1] = id .. ' ' .. now .. ' ' .. event .. '\n'
  end
  if recording ~= '' then
    redis.call('HSETNX', recordings, recording, call_uuid)
    if redis.call('ZADD', recent, 'NX', now, recording) == 1 then redis.call('ZADD', live, now, recording) end
  end
end
if #new > 0 then
  redis.call('SET', call, log .. table.concat(lines))
  for _, channel in ipairs(redis.call('SMEMBERS', listeners)) do redis.call('PUBLISH', channel, call) end
end
for _ = 1, dues do
  local other, instant = ARGV[at], ARGV[at + 1]
  local other_kind = string.match(other, '^(%a+)|')
  at = at + 2
  local held = redis.call('ZSCORE', leases[other_kind], other)
  if not held or tonumber(held) <= now then
    if instant == 'now' then redis.call('ZADD', due[other_kind], 'LT', now, other)
    elseif instant == '' then redis.call('ZREM', due[other_kind], other)
    else redis.call('ZADD', due[other_kind], instant, other) end
  end
end
if newer then redis.call('ZADD', due[kind], now, obligation) end
-- What the catalogue has not entered yet does not expire.
local unindexed = due.index and redis.call('ZSCORE', due.index, 'index|' .. string.match(obligation, '^%a+|([^|]+|[^|]+)'))
if keep_s > 0 and not newer and not unindexed then redis.call('EXPIRE', call, keep_s) else redis.call('PERSIST', call) end
if redis.call('LLEN', wake) < 16 then redis.call('RPUSH', wake, 1) end
return {'ok', new}
