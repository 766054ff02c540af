-- Twin of gcra.py: the same float operations in the same order. s and p count from 1 here.
local rule = {}

function rule.size(p) return 3 end

function rule.start(s, p, now)
  s[1] = now
  s[2] = 0
  s[3] = p[3]
end

function rule.refresh(s, p, now)
  local backlog = s[2]
  if s[3] ~= p[3] then
    s[3] = p[3]
    if backlog > p[3] then backlog = p[3] end
  end
  if now > s[1] then
    backlog = backlog - (now - s[1])
    s[1] = now
  end
  if backlog < 0 then backlog = 0 end
  s[2] = backlog
end

function rule.rewind(s, p, now) s[1] = now end

function rule.available(s, p, now) return p[1] - s[2] / p[2] end

function rule.charge(s, p, cost, now) s[2] = s[2] + cost * p[2] end

function rule.retry_after(s, p, cost, now)
  if cost > p[1] then return math.huge end
  return s[2] - (p[1] - cost) * p[2]
end

function rule.reset_after(s, p, now) return s[2] end

return rule
