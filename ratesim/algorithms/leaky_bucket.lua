-- Twin of leaky_bucket.py: the same float operations in the same order. s and p count from 1 here.
local rule = {}

function rule.size(p) return 3 end

function rule.start(s, p, now)
  s[1] = now
  s[2] = 0
  s[3] = p[1]
end

function rule.refresh(s, p, now)
  local volume = s[2]
  if s[3] ~= p[1] then
    s[3] = p[1]
    if volume > p[1] then volume = p[1] end
  end
  if now > s[1] then
    volume = volume - (now - s[1]) * p[2]
    s[1] = now
  end
  if volume < 0 then volume = 0 end
  s[2] = volume
end

function rule.rewind(s, p, now) s[1] = now end

function rule.available(s, p, now) return p[1] - s[2] end

function rule.charge(s, p, cost, now) s[2] = s[2] + cost end

function rule.retry_after(s, p, cost, now)
  if cost > p[1] then return math.huge end
  return (s[2] - (p[1] - cost)) / p[2]
end

function rule.reset_after(s, p, now) return s[2] / p[2] end

return rule
