"""Times of requests: columns of stamps, in any form that logs have, as seconds since the epoch and the grain of each."""
