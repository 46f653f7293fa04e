-- Notes that a member of a call came into a conference room or left it, in whatever order that is reported: who has
-- left once stays out. `first` comes in when the room was empty, so whoever came first before is gone, told or not.
-- Returns the calls that are in the room now.
local room = KEYS[1]
local member, state = ARGV[1], ARGV[2]
if state == 'out' then
  redis.call('HSET', room, member, 'out')
elseif redis.call('HSETNX', room, member, state) == 1 and state == 'first' then
  local all = redis.call('HGETALL', room)
  for i = 1, #all, 2 do
    if all[i + 1] == 'first' and all[i] ~= member then redis.call('HSET', room, all[i], 'out') end
  end
end
redis.call('EXPIRE', room, 86400)
local calls, all = {}, redis.call('HGETALL', room)
for i = 1, #all, 2 do
  if all[i + 1] ~= 'out' then calls[#calls + 1] = string.match(all[i], '^([^|]+)') end
end
return calls
