-- Records events of a call, all or none. Records none if the log grew since the caller read it (ARGV[1]: its size then),
-- or if it already holds the last of them. Only one caller gets 1, and that one may act. It holds the call's lease, so
-- nothing has to be made due.
local call, listeners, metrics, news = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local log = redis.call('GET', call) or ''
local text = '\n' .. log
if #log ~= tonumber(ARGV[1]) or string.find(text, '\n' .. ARGV[#ARGV - 2] .. ' ', 1, true) then return 0 end
local lines = {}
for i = 2, #ARGV, 3 do
  if not string.find(text, '\n' .. ARGV[i] .. ' ', 1, true) then
    lines[#lines + 1] = ARGV[i] .. ' ' .. now .. ' ' .. ARGV[i + 1] .. '\n'
    redis.call('HINCRBYFLOAT', metrics, 'events_total|' .. ARGV[i + 2], 1)
  end
end
redis.call('SET', call, log .. table.concat(lines))
for _, channel in ipairs(redis.call('SMEMBERS', listeners)) do redis.call('PUBLISH', channel, call) end
redis.call('PUBLISH', news, call)
return 1
