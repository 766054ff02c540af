SELECT {{key}} FROM {{old_rows}} AS t WHERE {{beyond}} ORDER BY {{key}} LIMIT %s FOR SHARE
