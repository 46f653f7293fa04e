-- Notes that a member of a call came into a conference room or left it, in whatever order that is reported: who has
-- left once stays out. Returns the calls that are in the room now.
local room = KEYS[1]
local member, state = ARGV[1], ARGV[2]
if state == 'out' then redis.call('HSET', room, member, 'out') else redis.call('HSETNX', room, member, 'in') end
redis.call('EXPIRE', room, 86400)
local calls = {}
local all = redis.call('HGETALL', room)
for i = 1, #all, 2 do
  if all[i + 1] == 'in' then calls[#calls + 1] = string.match(all[i], '^([^|]+)') end
end
return calls
