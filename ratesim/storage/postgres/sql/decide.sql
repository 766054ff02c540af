-- Decides on one row, which is (stored, live): verdict -1 unreadable, 0 denied, 1 admitted.
back := false;
at := now;
IF live THEN
  {{load}}
END IF;
IF live AND ({{readable}}) IS NOT TRUE THEN
  verdict := -1;
ELSE
  IF live THEN
    IF {{time}} - now > skew THEN
      <rewind None now=now>
      back := true;
    END IF;
    IF {{time}} > at THEN
      at := {{time}};
    END IF;
    <refresh None now=at>
  ELSE
    <start None now=now>
  END IF;
  <available room now=at>
  IF room >= cost THEN
    verdict := 1;
    IF consume THEN
      <charge None now=at>
      <available room now=at>
    END IF;
    <reset_after fresh now=at>
    fresh := fresh + (at - now);
    IF NOT room > 0 THEN
      room := 0;
    END IF;
  ELSE
    verdict := 0;
  END IF;
END IF;
