-- Whether all rows of a partition have been over for so many seconds.
SELECT NOT EXISTS (SELECT FROM {{rows}} WHERE expires_at > to_timestamp({{cleanup_now}} - %(grace)s::float8))
