// Writes what statsd would give to a backend, one line of JSON for each flush.
exports.init = function (startup, config, events) {
  events.on('flush', function (time, metrics) {
    const counters = Object.fromEntries(
      Object.entries(metrics.counters).filter(([_, value]) => value !== 0));
    const timers = Object.fromEntries(
      Object.entries(metrics.timer_data).filter(([_, value]) => value.count));
    console.log(JSON.stringify({counters, gauges: metrics.gauges, timers}));
  });
  return true;
};
