-- Twin of sliding_log.py: the same float operations in the same order. s and p count from 1 here, and s is the stored form:
-- its time, the sum, then time and cost of each entry, oldest first.
local rule = {}

function rule.size(p) return nil end

function rule.start(s, p, now)
  s[1] = now
  s[2] = 0
  for i = #s, 3, -1 do s[i] = nil end
end

function rule.refresh(s, p, now)
  s[1] = now
  local length = #s
  local first = 3
  while first < length and now >= s[first] + p[2] do
    s[2] = s[2] - s[first + 1]
    first = first + 2
  end
  if first > 3 then
    if first > length then s[2] = 0 end
    local gone = first - 3
    for i = first, length do s[i - gone] = s[i] end
    for i = length, length - gone + 1, -1 do s[i] = nil end
  end
end

function rule.rewind(s, p, now)
  s[1] = now
  local place, cost = #s + 1, 0
  while place > 3 and s[place - 2] >= now do
    place = place - 2
    cost = s[place + 1] + cost
  end
  if place <= #s then
    for i = #s, place + 2, -1 do s[i] = nil end
    s[place] = now
    s[place + 1] = cost
  end
end

function rule.available(s, p, now) return p[1] - s[2] end

function rule.charge(s, p, cost, now)
  if cost == 0 or now + p[2] <= s[1] then return end
  s[2] = s[2] + cost
  local place = #s + 1
  while place > 3 and s[place - 2] > now do place = place - 2 end
  if place > 3 and s[place - 2] == now then
    s[place - 1] = s[place - 1] + cost
    return
  end
  for i = #s, place, -1 do s[i + 2] = s[i] end
  s[place] = now
  s[place + 1] = cost
end

function rule.retry_after(s, p, cost, now)
  if cost > p[1] then return math.huge end
  local used = s[2]
  for i = 3, #s, 2 do
    used = used - s[i + 1]
    if i + 1 == #s or p[1] - used >= cost then return s[i] + p[2] - now end
  end
  return 0
end

function rule.reset_after(s, p, now)
  if #s == 2 then return 0 end
  return s[#s - 1] + p[2] - now
end

return rule
