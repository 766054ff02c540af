skew float8;
locked boolean;
stored float8[];
live boolean;
place timestamptz;
back boolean;  -- whether the state was brought back
at float8;
room float8;
fresh float8;
verdict float8;
{{variables}}
