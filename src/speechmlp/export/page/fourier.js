// Fourier transforms of any length, in mixed radix; quick unless the length has a large prime factor.

function factorsOf(length) {
  const found = [];
  let rest = length;
  for (let p = 2; rest > 1; p += 1) {
    if (p * p > rest) p = rest;
    for (; rest % p === 0; rest /= p) found.push(p);
  }
  return found;
}

export class Fourier {
  constructor(length) {
    this.length = length;
    this.factors = factorsOf(length);
    this.cos = Float64Array.from({ length }, (_, k) => Math.cos((2 * Math.PI * k) / length));
    this.sin = Float64Array.from({ length }, (_, k) => Math.sin((2 * Math.PI * k) / length));
    const widest = Math.max(1, ...this.factors);
    this.part = [new Float64Array(widest), new Float64Array(widest)];
  }

  transform(re, im) {
    // Returns the transform of complex values as [real parts, imaginary parts].
    const out = [new Float64Array(this.length), new Float64Array(this.length)];
    if (this.length === 1) return [Float64Array.of(re[0]), Float64Array.of(im[0])];
    this.work(out, 0, re, im, 0, 1, 0);
    return out;
  }

  work(out, at, re, im, from, stride, level) {
    const radix = this.factors[level];
    const size = this.length / stride / radix; // of each part
    for (let k = 0; k < radix; k += 1) {
      if (size === 1) [out[0][at + k], out[1][at + k]] = [re[from + k * stride], im[from + k * stride]];
      else this.work(out, at + k * size, re, im, from + k * stride, stride * radix, level + 1);
    }
    if (radix === 2) this.pairs(out[0], out[1], at, stride, size);
    else this.join(out[0], out[1], at, stride, size, radix);
  }

  pairs(re, im, at, stride, size) {
    for (let k = 0; k < size; k += 1) {
      const [first, second, turn] = [at + k, at + k + size, k * stride];
      const [c, s] = [this.cos[turn], -this.sin[turn]];
      const a = re[second] * c - im[second] * s;
      const b = re[second] * s + im[second] * c;
      re[second] = re[first] - a;
      im[second] = im[first] - b;
      re[first] += a;
      im[first] += b;
    }
  }

  join(re, im, at, stride, size, radix) {
    const [partRe, partIm] = this.part;
    for (let k = 0; k < size; k += 1) {
      for (let q = 0; q < radix; q += 1) [partRe[q], partIm[q]] = [re[at + k + q * size], im[at + k + q * size]];
      for (let p = 0; p < radix; p += 1) {
        const step = (stride * (k + p * size)) % this.length;
        let [sumRe, sumIm, turn] = [partRe[0], partIm[0], 0];
        for (let q = 1; q < radix; q += 1) {
          turn += step;
          if (turn >= this.length) turn -= this.length;
          const [c, s] = [this.cos[turn], -this.sin[turn]];
          sumRe += partRe[q] * c - partIm[q] * s;
          sumIm += partRe[q] * s + partIm[q] * c;
        }
        [re[at + k + p * size], im[at + k + p * size]] = [sumRe, sumIm];
      }
    }
  }

  powers(first, second) {
    // Returns the powers [length / 2 + 1] of two real signals, by one complex transform.
    const [re, im] = this.transform(first, second);
    const count = Math.floor(this.length / 2) + 1;
    const found = [new Float32Array(count), new Float32Array(count)];
    for (let k = 0; k < count; k += 1) {
      const mirror = (this.length - k) % this.length;
      const [a, b] = [(re[k] + re[mirror]) / 2, (im[k] - im[mirror]) / 2];
      const [c, d] = [(im[k] + im[mirror]) / 2, (re[mirror] - re[k]) / 2];
      found[0][k] = a * a + b * b;
      found[1][k] = c * c + d * d;
    }
    return found;
  }
}

const known = new Map();

export function fourier(length) {
  // Returns the transform of a length; it is kept, because its tables take longer than a transform.
  if (!known.has(length)) {
    if (known.size > 8) known.clear();
    known.set(length, new Fourier(length));
  }
  return known.get(length);
}

export function filtered(samples, gain) {
  // Returns real samples whose frequency k / length is multiplied by gain(k / length), for 0 <= k / length <= 0.5.
  const length = samples.length;
  const [re, im] = fourier(length).transform(samples, new Float64Array(length));
  for (let k = 0; k < length; k += 1) {
    const factor = gain(Math.min(k, length - k) / length) / length;
    re[k] *= factor;
    im[k] *= -factor; // the transform of the conjugate is the inverse
  }
  return Float32Array.from(fourier(length).transform(re, im)[0]);
}
