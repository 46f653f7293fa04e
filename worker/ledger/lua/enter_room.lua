-- Notes that a member of a call entered a conference room or left it. The reports come in any order: a member who left
-- once stays out. `first` means that the room was empty, so the member who was first before has left, even if nobody
-- reported it. Returns the calls that are in the room now.
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
