// Removes steady hum from a recording: as speechmlp/audio/hum.py, whose numbers come in settings.
import { fourier } from "./fourier.js";
import { roundEven } from "./rounding.js";

export function withoutHum(samples, rate, constants) {
  // Returns a waveform without its hum if that is strong; otherwise the same array.
  const { LEAST, SPAN, STRONG, BLOCK, LEFT } = constants;
  if (samples.length < LEAST * SPAN * rate) return samples;
  const power = powers(samples, rate, SPAN);
  const strong = 10 ** (STRONG / 10) * Math.max(...power);
  if (quietest(power, constants) < strong) return samples;
  const size = roundEven(BLOCK * rate);
  const tones = [];
  const rest = samples.slice();
  for (let first = 0; first === 0 || first < samples.length - Math.floor(size / 2); first += size) {
    const last = first + size < samples.length - Math.floor(size / 2) ? first + size : samples.length;
    const found = humOf(samples.subarray(first, last), rate, constants);
    tones.push(strength(found, constants));
    soundOf(found, last - first, rate).forEach((value, i) => (rest[first + i] -= Math.fround(value)));
  }
  if (!tones.some((one) => one > strong)) return samples;
  const left = powers(rest, rate, SPAN);
  // If nothing stands out from what is left, the tone is what was recorded.
  return Math.max(...left) > 10 ** (LEFT / 10) * quantile(left.sort(), 0.5) ? rest : samples;
}

function strength(tones, { RUMBLE }) {
  // Returns the power of everything but the rumble.
  const kept = tones.filter((tone) => tone.line > 2 * Math.PI * RUMBLE);
  return kept.reduce((sum, { steady: [a, b] }) => sum + a * a + b * b, 0) / 2;
}

function turning(line, length, rate) {
  // Returns cosine and sine of a frequency at each sample; products of a few, which are slow.
  const found = [new Float64Array(length), new Float64Array(length)];
  const near = Array.from({ length: 256 }, (_, i) => [Math.cos((line * i) / rate), Math.sin((line * i) / rate)]);
  for (let first = 0; first < length; first += 256) {
    const [c, s] = [Math.cos((line * first) / rate), Math.sin((line * first) / rate)];
    for (let i = first; i < Math.min(length, first + 256); i += 1) {
      const [a, b] = near[i - first];
      found[0][i] = a * c - b * s;
      found[1][i] = a * s + b * c;
    }
  }
  return found;
}

function soundOf(tones, length, rate) {
  const sound = new Float64Array(length);
  for (const { line, steady, growing } of tones) {
    const [cosine, sine] = turning(line, length, rate);
    for (let i = 0; i < length; i += 1) {
      const time = i / rate;
      sound[i] += (steady[0] + growing[0] * time) * cosine[i] - (steady[1] + growing[1] * time) * sine[i];
    }
  }
  return sound;
}

function powers(samples, rate, span) {
  // Returns the variance of each stretch.
  const size = roundEven(span * rate);
  const found = new Float64Array(Math.floor(samples.length / size));
  for (let i = 0; i < found.length; i += 1) {
    const part = samples.subarray(i * size, (i + 1) * size);
    const mean = part.reduce((sum, value) => sum + value, 0) / size;
    found[i] = part.reduce((sum, value) => sum + (value - mean) ** 2, 0) / size;
  }
  return found;
}

function quietest(power, { QUIETEST }) {
  return power.slice().sort()[Math.floor(QUIETEST * power.length)];
}

function quantile(sorted, fraction) {
  const at = fraction * (sorted.length - 1);
  const below = Math.floor(at);
  return sorted[below] + (at - below) * (sorted[Math.min(below + 1, sorted.length - 1)] - sorted[below]);
}

function centred(samples) {
  const mean = samples.reduce((sum, value) => sum + value, 0) / samples.length;
  return samples.map((value) => value - mean);
}

function humOf(block, rate, constants) {
  // Returns the hum of a block: sines whose amplitudes may grow.
  const slower = 2 ** Math.max(0, roundEven(Math.log2(rate / constants.RATE)));
  const slow = centred(decimated(block, slower));
  const slowRate = rate / slower;
  let [tones, rest] = [[], slow];
  for (let round = 0; round < constants.ROUNDS; round += 1) {
    const kept = quiet(rest, slowRate, constants);
    if (kept.length < constants.LEAST) break;
    const more = linesOf(rest, kept, tones, slowRate, constants);
    if (!more.length) break;
    tones = fitted(slow, kept, [...tones.map((tone) => tone.line), ...more], slowRate, constants);
    const sound = soundOf(tones, slow.length, slowRate);
    rest = slow.map((value, i) => value - sound[i]);
  }
  return tones;
}

function decimated(block, slower) {
  // Returns every n-th sample of a block without its higher frequencies.
  const padded = new Float64Array(Math.ceil(block.length / 2048) * 2048);
  padded.set(block);
  const [re, im] = fourier(padded.length).transform(padded, new Float64Array(padded.length));
  const size = padded.length / slower;
  const [low, turned] = [new Float64Array(size), new Float64Array(size)];
  for (let k = 0; k < size / 2; k += 1) {
    [low[k], turned[k]] = [re[k], -im[k]];
    if (k) [low[size - k], turned[size - k]] = [re[k], im[k]];
  }
  const found = fourier(size).transform(low, turned)[0];
  return found.subarray(0, Math.floor(block.length / slower)).map((value) => value / padded.length);
}

function quiet(slow, rate, constants) {
  // Returns the first samples of the quiet stretches; those at the ends of a block ring after the change of rate.
  const { SPAN, LEAST, QUIET } = constants;
  const power = powers(slow, rate, SPAN);
  if (power.length < LEAST) return [];
  const limit = QUIET * quietest(power, constants);
  const size = roundEven(SPAN * rate);
  return [...power.keys()].slice(1, -1).filter((i) => power[i] <= limit).map((i) => i * size);
}

function linesOf(rest, kept, known, rate, constants) {
  // Returns frequencies of tones in radians per second, those near known ones excluded.
  const { AROUND, NOISE, CLEAR, LOW, HIGH, APART, MOST, RANGE, SPAN } = constants;
  const span = roundEven(SPAN * rate);
  const size = 4 * 2 ** Math.ceil(Math.log2(rest.length));
  const weighted = new Float64Array(size);
  for (const first of kept) {
    for (let i = first; i < first + span; i += 1) {
      weighted[i] = rest[i] * (0.5 - 0.5 * Math.cos((2 * Math.PI * (i + 1)) / (rest.length + 1)));
    }
  }
  const [re, im] = fourier(size).transform(weighted, new Float64Array(size));
  const power = Float64Array.from({ length: size / 2 + 1 }, (_, k) => re[k] * re[k] + im[k] * im[k]);
  const bin = (frequency) => roundEven((frequency * size) / rate);
  const width = bin(AROUND);
  const noise = [];
  for (let step = 0; step < power.length; step += width) {
    noise.push(quantile(power.slice(Math.max(0, step - width), step + width).sort(), NOISE));
  }
  const above = new Uint8Array(power.length);
  for (let k = bin(LOW); k < Math.min(power.length - 1, bin(HIGH)); k += 1) {
    const at = Math.min(noise.length - 1, k / width);
    const [below, next] = [Math.floor(at), Math.min(noise.length - 1, Math.floor(at) + 1)];
    const here = noise[below] + (at - below) * (noise[next] - noise[below]);
    above[k] = power[k] > 10 ** (CLEAR / 10) * (here + 1e-20) ? 1 : 0;
  }
  const apart = bin(APART);
  const clear = (middle) => above.fill(0, Math.max(0, middle - apart), middle + apart + 1);
  for (const { line } of known) clear(bin(line / (2 * Math.PI)));
  const found = [];
  let strongest = 0;
  while (found.length + known.length < MOST) {
    let peak = -1;
    above.forEach((one, k) => {
      if (one && (peak < 0 || power[k] > power[peak])) peak = k;
    });
    strongest = strongest || (peak < 0 ? 0 : power[peak]);
    if (peak < 0 || power[peak] < 10 ** (-RANGE / 10) * strongest) break;
    const near = [-1, 0, 1].map((step) => Math.log(power[peak + step] + 1e-30));
    const shift = (0.5 * (near[0] - near[2])) / Math.min(-1e-9, near[0] - 2 * near[1] + near[2]);
    found.push((2 * Math.PI * (peak + Math.min(0.5, Math.max(-0.5, shift))) * rate) / size);
    clear(peak);
  }
  return found;
}

function fitted(slow, kept, start, rate, { SPAN }) {
  // Returns sines of about these frequencies that are fitted to the quiet stretches of a waveform.
  const times = [kept.map((first) => first / rate), Array.from({ length: roundEven(SPAN * rate) }, (_, i) => i / rate)];
  const end = (slow.length - 1) / rate;
  const tones = (lines) => {
    const found = solved(gramOf(lines, times), valuesOf(lines, slow, kept, times[1].length, rate));
    const pair = (at, i) => [found[at * lines.length + i], found[(at + 1) * lines.length + i]];
    return lines.map((line, i) => ({ line, steady: pair(0, i), growing: pair(2, i) }));
  };
  let lines = start;
  for (let round = 0; round < 2; round += 1) {
    // A wrong frequency looks like an amplitude that turns while it grows.
    lines = tones(lines).map(({ line, steady, growing }) => {
      const [a, b] = [steady[0] + (growing[0] * end) / 2, steady[1] + (growing[1] * end) / 2];
      const turned = a || b ? (growing[1] * a - growing[0] * b) / (a * a + b * b) : growing[1];
      return line + Math.min(1 / end, Math.max(-1 / end, turned));
    });
  }
  return tones(lines);
}

function moments(line, times) {
  // Returns the sums of exp(i * line * time) * time ** k for k = 0, 1, 2 as real and imaginary parts.
  const found = [[0, 0], [0, 0], [0, 0]];
  for (const time of times) {
    let [c, s] = [Math.cos(line * time), Math.sin(line * time)];
    for (const sum of found) {
      sum[0] += c;
      sum[1] += s;
      [c, s] = [c * time, s * time];
    }
  }
  return found;
}

function momentsOf(line, [firsts, within]) {
  // The same for all times of stretches, each a first one plus one within.
  const [a, b] = [moments(line, firsts), moments(line, within)];
  const times = ([c, s], [d, t]) => [c * d - s * t, c * t + s * d];
  const sum = (...parts) => [0, 1].map((i) => parts.reduce((total, part) => total + part[i], 0));
  const middle = times(a[1], b[1]);
  return [
    times(a[0], b[0]),
    sum(times(a[1], b[0]), times(a[0], b[1])),
    sum(times(a[2], b[0]), middle, middle, times(a[0], b[2])),
  ];
}

function gramOf(lines, times) {
  // Returns the inner products of cosines and negative sines, and of these times time, over the quiet stretches.
  const count = lines.length;
  const gram = Array.from({ length: 4 * count }, () => new Float64Array(4 * count));
  const set = (row, column, value) => (gram[row][column] = gram[column][row] = value);
  for (let i = 0; i < count; i += 1) {
    for (let j = 0; j <= i; j += 1) {
      const [less, more] = [momentsOf(lines[i] - lines[j], times), momentsOf(lines[i] + lines[j], times)];
      for (const [a, b] of [[0, 0], [0, 1], [1, 0], [1, 1]]) {
        const [[c, s], [d, t]] = [less[a + b], more[a + b]];
        const [row, column] = [2 * a * count + i, 2 * b * count + j];
        set(row, column, (c + d) / 2);
        set(row, column + count, (s - t) / 2);
        set(row + count, column, (-s - t) / 2);
        set(row + count, column + count, (c - d) / 2);
      }
    }
  }
  // The same small part of each diagonal element as in Python.
  gram.forEach((row, i) => (row[i] += 1e-9 * times[0].length * times[1].length));
  return gram;
}

function valuesOf(lines, slow, kept, size, rate) {
  // Returns the inner products of these with the waveform.
  const count = lines.length;
  const values = new Float64Array(4 * count);
  lines.forEach((line, j) => {
    const [cosine, sine] = turning(line, slow.length, rate);
    for (const first of kept) {
      for (let i = first; i < first + size; i += 1) {
        const [c, s] = [slow[i] * cosine[i], -slow[i] * sine[i]];
        values[j] += c;
        values[count + j] += s;
        values[2 * count + j] += (c * i) / rate;
        values[3 * count + j] += (s * i) / rate;
      }
    }
  });
  return values;
}

function solved(lower, values) {
  // Returns the solution of a symmetric system, by Cholesky's method in place.
  const size = values.length;
  for (let i = 0; i < size; i += 1) {
    for (let j = 0; j <= i; j += 1) {
      let sum = lower[i][j];
      for (let k = 0; k < j; k += 1) sum -= lower[i][k] * lower[j][k];
      lower[i][j] = i === j ? Math.sqrt(sum) : sum / lower[j][j];
    }
  }
  for (let i = 0; i < size; i += 1) {
    for (let k = 0; k < i; k += 1) values[i] -= lower[i][k] * values[k];
    values[i] /= lower[i][i];
  }
  for (let i = size - 1; i >= 0; i -= 1) {
    for (let k = i + 1; k < size; k += 1) values[i] -= lower[k][i] * values[k];
    values[i] /= lower[i][i];
  }
  return values;
}
