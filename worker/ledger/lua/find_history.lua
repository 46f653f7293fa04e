-- The entries of a part of the history that hold one of some texts, newest first. ARGV: the newest id, the oldest, how
-- many entries to look at, and the texts. The answer has the last id that was looked at ('' at the end), then each entry.
local history, newest, oldest, count = KEYS[1], ARGV[1], ARGV[2], ARGV[3]
local page = redis.call('XREVRANGE', history, newest, oldest, 'COUNT', count)
local answer = {page[1] and page[#page][1] or ''}
for _, entry in ipairs(page) do
  for i = 4, #ARGV do
    if string.find(entry[2][2], ARGV[i], 1, true) then
      answer[#answer + 1] = entry[1]
      answer[#answer + 1] = entry[2][2]
      break
    end
  end
end
return answer
