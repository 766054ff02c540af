-- Whether the partition in use is not that of the present span, which is there.
SELECT EXISTS (SELECT FROM {{periods}} AS p, ({{next_period}}) AS n WHERE n.start > p.period)
