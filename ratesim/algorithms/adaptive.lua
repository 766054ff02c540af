-- Twin of adaptive.py: the same float operations in the same order. s and p count from 1 here.
local rule = {}
local HISTORY = 16

local function window(p, now)
  local start = math.floor(now / p[2]) * p[2]
  if start > now or now >= start + p[2] then return now end
  return start
end

local function clamp(p, limit) return math.min(math.max(limit, p[3]), p[4]) end

local function adjusted_limit(s, p)
  local limit = clamp(p, s[3])
  if s[5] > 0 then
    if s[4] >= p[5] then
      if s[6] >= p[7] * limit then limit = limit + p[8] end
    elseif s[4] < p[6] then
      limit = limit * p[9]
    end
  end
  return clamp(p, limit)
end

function rule.size(p) return 6 + HISTORY end

function rule.start(s, p, now)
  s[1] = window(p, now)
  s[2] = now
  s[3] = clamp(p, p[1])
  s[4] = 1
  s[5] = 0
  s[6] = 0
  for i = 7, 6 + HISTORY do s[i] = 0 end
end

function rule.refresh(s, p, now)
  if now >= s[2] + HISTORY * p[2] then
    rule.start(s, p, now)
  elseif now >= s[1] + p[2] then
    local newest = window(p, now)
    local steps = math.min(math.max(math.floor((newest - s[1]) / p[2] + 0.5), 1), HISTORY)
    s[3] = adjusted_limit(s, p)
    for i = HISTORY - 1, 0, -1 do
      if i >= steps then s[7 + i] = s[7 + i - steps] else s[7 + i] = 0 end
    end
    s[6 + steps] = s[6]
    s[1] = newest
    s[5] = 0
    s[6] = 0
  else
    s[3] = clamp(p, s[3])
  end
end

function rule.rewind(s, p, now)
  s[1] = window(p, now)
  s[2] = math.min(s[2], now)
end

function rule.available(s, p, now)
  local used = s[6]
  local share = 1 - (now - s[1]) / p[2]
  if share > 0 then used = used + s[7] * share end
  return s[3] - used
end

function rule.charge(s, p, cost, now)
  s[2] = math.max(s[2], now)
  if now >= s[1] then
    s[6] = s[6] + cost
  else
    local steps = math.ceil((s[1] - now) / p[2])
    if steps <= HISTORY then s[6 + steps] = s[6 + steps] + cost end
  end
end

function rule.observe(s, p, score, now)
  s[2] = math.max(s[2], now)
  local gap = score - s[4]
  if gap <= -1e-9 or gap >= 1e-9 then s[4] = s[4] + p[10] * gap end
  s[5] = s[5] + 1
end

function rule.retry_after(s, p, cost, now)
  local room = s[3] - s[6]
  if room > cost then return s[1] + (1 - (room - cost) / s[7]) * p[2] - now end
  local limit = adjusted_limit(s, p)
  if limit - s[6] >= cost then return s[1] + p[2] - now end
  if limit >= cost then return s[1] + (2 - (limit - cost) / s[6]) * p[2] - now end
  if cost <= clamp(p, p[1]) then return s[2] + HISTORY * p[2] - now end
  return math.huge
end

function rule.reset_after(s, p, now)
  if s[3] ~= clamp(p, p[1]) or s[4] ~= 1 or s[5] > 0 then return math.max(s[2] + HISTORY * p[2] - now, 0) end
  if s[6] > 0 then return s[1] + 2 * p[2] - now end
  if s[7] > 0 then return s[1] + p[2] - now end
  return 0
end

return rule
