// Windowed-sinc interpolation: as speechmlp/placing.py, whose numbers come in settings.

function nearestRatio(before, after, largest) {
  // Returns the fraction nearest to before / after whose denominator is at most the largest (continued fractions).
  const divisor = (a, b) => (b ? divisor(b, a % b) : a);
  const common = divisor(before, after);
  let [n, d] = [before / common, after / common];
  if (d <= largest) return [n, d];
  const exact = n / d;
  let [p0, q0, p1, q1] = [0, 1, 1, 0];
  for (;;) {
    const a = Math.floor(n / d);
    if (q0 + a * q1 > largest) break;
    [p0, q0, p1, q1] = [p1, q1, p0 + a * p1, q0 + a * q1];
    [n, d] = [d, n - a * d];
  }
  const k = Math.floor((largest - q0) / q1);
  const [p, q] = [p0 + k * p1, q0 + k * q1];
  const near = Math.abs(p1 / q1 - exact) <= Math.abs(p / q - exact) ? [p1, q1] : [p, q];
  return near[0] ? near : [before / common, after / common];
}

export function resample(samples, rate, wanted, resampling) {
  // Returns samples at the wanted rate; their number is rounded up.
  const { ZEROS, ROLLOFF, LARGEST_DENOMINATOR } = resampling;
  const [before, after] = nearestRatio(rate, wanted, LARGEST_DENOMINATOR);
  if (before === after) return samples;
  const cutoff = ROLLOFF * Math.min(before, after);
  const reach = (ZEROS * before) / cutoff;
  const taps = 2 * Math.ceil(reach) + 1;
  const firsts = new Int32Array(after);
  const kernel = new Float32Array(after * taps);
  for (let phase = 0; phase < after; phase += 1) {
    firsts[phase] = Math.ceil((phase * before) / after - reach);
    for (let k = 0; k < taps; k += 1) {
      const distance = ((firsts[phase] + k) / before - Math.fround(phase / after)) * cutoff;
      const time = Math.min(ZEROS, Math.max(-ZEROS, distance)) * Math.PI;
      const sinc = time === 0 ? 1 : Math.sin(time) / time;
      kernel[phase * taps + k] = (sinc * Math.cos(time / ZEROS / 2) ** 2 * cutoff) / before;
    }
  }
  const resampled = new Float32Array(Math.ceil((samples.length * after) / before));
  for (let i = 0; i < resampled.length; i += 1) {
    const phase = i % after;
    const first = Math.floor(i / after) * before + firsts[phase];
    let total = 0;
    for (let k = Math.max(0, -first); k < Math.min(taps, samples.length - first); k += 1) total += samples[first + k] * kernel[phase * taps + k];
    resampled[i] = total;
  }
  return resampled;
}
