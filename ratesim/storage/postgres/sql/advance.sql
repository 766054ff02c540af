UPDATE {{periods}} AS p SET period = n.start FROM ({{next_period}}) AS n WHERE n.start > p.period
