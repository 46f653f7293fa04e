-- Ends leases, each by itself: writes the events that the work found, and sets when obligations are due next. Refuses
-- a lease that ran out or that another worker has. If the log grew since the worker read it, or a reload came after the
-- settings that it planned with, the obligation is due again now. The answer has an entry for each commit: {'ok', ids of
-- the events that are new}, {'stale'}, or {'failed', why}; a failed one keeps its lease, which then runs out.
local fences, unfinished, generation, wake, hints, hinted, looking, news = unpack(KEYS, 1, 8)
local four_days_s = 345600      -- how old an event may be of which anybody is still notified
local due, leases = {}, {}      -- by duty, the last part of their names
for i = 9, 8 + ARGV[1], 2 do
  local duty = string.match(KEYS[i], '(%a+)$')
  due[duty], leases[duty] = KEYS[i], KEYS[i + 1]
end
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local reloads = redis.call('GET', generation) or '0'
-- Nobody waits for what is due soon, so that is done with all that becomes due within a fifth of a second.
local at_latest = {now = now, soon = math.floor(now / 200 + 1) * 200}
local earliest, plans_now = math.huge, false      -- of what is due from now on

local function becomes_due(kind, instant)
  if kind == 'plan' and instant <= now then plans_now = true else earliest = math.min(earliest, instant) end
end

local function commit(call, recordings, recent, live, listeners, filed, history, at)
  local obligation, fence, call_uuid, seen, keep_s = ARGV[at], ARGV[at + 1], ARGV[at + 2], tonumber(ARGV[at + 3]), tonumber(ARGV[at + 4])
  local planned_with, events, dues = ARGV[at + 5], tonumber(ARGV[at + 6]), tonumber(ARGV[at + 7])
  local files, deeds = tonumber(ARGV[at + 8]), tonumber(ARGV[at + 9])
  at = at + 10
  local kind = string.match(obligation, '^(%a+)|')
  local until_ms = redis.call('ZSCORE', leases[kind], obligation)
  if redis.call('HGET', fences, obligation) ~= fence or not until_ms or tonumber(until_ms) <= now then return {'stale'} end
  -- What can fail for one call alone is read before anything is written.
  local log = redis.call('GET', call) or ''
  local channels = events > 0 and redis.call('SMEMBERS', listeners) or {}
  redis.call('HDEL', fences, obligation)
  redis.call('HDEL', unfinished, obligation)      -- earlier tries count no longer
  redis.call('ZREM', leases[kind], obligation)

  local newer = #log ~= seen or (planned_with ~= '' and planned_with ~= reloads)
  local new, lines, known, fresh, text = {}, {}, {}, {}, '\n' .. log
  for _ = 1, events do
    local id, event, recording = ARGV[at], ARGV[at + 1], ARGV[at + 2]
    at = at + 3
    if not known[id] and not string.find(text, '\n' .. id .. ' ', 1, true) then
      known[id], fresh[id] = true, true
      new[#new + 1] = id
      lines[#lines + 1] = id .. ' ' .. now .. ' ' .. event .. '\n'
    end
    if recording ~= '' and redis.call('HSETNX', recordings, recording, call_uuid) == 1 then
      if redis.call('ZADD', recent, 'NX', now, recording) == 1 then redis.call('ZADD', live, now, recording) end
    end
  end
  if #new > 0 then
    redis.call('SET', call, log .. table.concat(lines))
    for _, channel in ipairs(channels) do redis.call('PUBLISH', channel, call) end
    redis.call('PUBLISH', news, call)
  end
  for _ = 1, dues do
    local other, instant = ARGV[at], ARGV[at + 1]
    local other_kind = string.match(other, '^(%a+)|')
    at = at + 2
    local held = other ~= obligation and redis.call('ZSCORE', leases[other_kind], other)
    if not held or tonumber(held) <= now then
      if instant == '' then redis.call('ZREM', due[other_kind], other)
      elseif at_latest[instant] then redis.call('ZADD', due[other_kind], 'LT', at_latest[instant], other)
      else redis.call('ZADD', due[other_kind], instant, other) end
      if instant ~= '' then becomes_due(other_kind, at_latest[instant] or tonumber(instant)) end
    end
  end
  -- What belongs to a day's books goes with the event that tells of it: both are written, or neither.
  for _ = 1, files do
    if #new > 0 then redis.call('ZADD', filed, 'NX', now, ARGV[at]) end
    at = at + 1
  end
  for _ = 1, deeds do
    if fresh[ARGV[at]] then redis.call('XADD', history, '*', 'entry', ARGV[at + 1]) end
    at = at + 2
  end
  if newer then
    redis.call('ZADD', due[kind], now, obligation)
    becomes_due(kind, now)
  end
  -- What the catalogue has not entered yet does not expire. Notifications, erasures and who is handed a recording do not keep a log: whoever
  -- finished the call said how long it stays; at least for as long as they are tried (four_days_s).
  if kind ~= 'notify' and kind ~= 'erase' and kind ~= 'handon' then
    local of_call = string.match(obligation, '^%a+|([^|]+|[^|]+)')
    local unindexed = redis.call('ZSCORE', due.index, 'index|' .. of_call)
    if keep_s > 0 and keep_s < four_days_s and redis.call('ZSCORE', due.notify, 'notify|' .. of_call) then keep_s = four_days_s end
    if keep_s > 0 and not newer and not unindexed then redis.call('EXPIRE', call, keep_s) else redis.call('PERSIST', call) end
  end
  return {'ok', new}
end

local answers, at, key = {}, 2, 9 + ARGV[1]
while at <= #ARGV do
  local well, answer = pcall(commit, KEYS[key], KEYS[key + 1], KEYS[key + 2], KEYS[key + 3], KEYS[key + 4], KEYS[key + 5], KEYS[key + 6], at + 1)
  if not well then answer = {'failed', type(answer) == 'table' and answer.err or tostring(answer)} end
  answers[#answers + 1] = answer
  at, key = at + 1 + ARGV[at], key + 7
end
if plans_now and redis.call('SET', hinted, 1, 'NX', 'PX', 250) then redis.call('RPUSH', hints, 'soon') end
-- A clock looks by itself when the earliest is due that it knows of. `any`: it waits for a slot that becomes free.
local awaited = redis.call('GET', looking)
if (awaited == 'any' or earliest < (tonumber(awaited) or math.huge)) and redis.call('LLEN', wake) < 16 then redis.call('RPUSH', wake, 1) end
return answers
