// The pixels that the network sees, as `evaluate` makes them: the centre first, in whole pixels, then an antialiased
// resize to a square of 256 pixels, rounded, and its centre. Pure functions.

const SQUARE = 256;

/** Returns the region of an image that becomes the square: {left, top, width, height} in whole pixels. */
export function region(width, height, resize) {
  if (resize === "caffe") return {left: 0, top: 0, width, height};
  const side = Math.min(width, height);
  return {left: Math.floor((width - side) / 2), top: Math.floor((height - side) / 2), width: side, height: side};
}

/** Returns, for each output pixel, {first, weights}: a triangle as wide as a step, at least two input pixels. */
function triangles(inputSize, outputSize) {
  const step = inputSize / outputSize;
  const radius = Math.max(step, 1);
  return Array.from({length: outputSize}, (_, index) => {
    const center = (index + 0.5) * step;
    const first = Math.max(0, Math.ceil(center - radius - 0.5));
    const last = Math.min(inputSize - 1, Math.floor(center + radius - 0.5));
    const weights = [];
    for (let each = first; each <= last; each++) weights.push(Math.max(0, 1 - Math.abs(each + 0.5 - center) / radius));
    const sum = weights.reduce((total, weight) => total + weight, 0);
    return {first, weights: weights.map((weight) => weight / sum)};
  });
}

/** Resizes RGBA bytes of width x height to RGB bytes, SQUARE x SQUARE, columns after rows. */
function toSquare(rgba, width, height) {
  const rows = triangles(height, SQUARE), columns = triangles(width, SQUARE);
  const narrow = new Float32Array(SQUARE * width * 3);
  rows.forEach(({first, weights}, row) => {
    for (let x = 0; x < width; x++) {
      for (let channel = 0; channel < 3; channel++) {
        let sum = 0;
        for (let k = 0; k < weights.length; k++) sum += weights[k] * rgba[((first + k) * width + x) * 4 + channel];
        narrow[(row * width + x) * 3 + channel] = sum;
      }
    }
  });
  const square = new Uint8ClampedArray(SQUARE * SQUARE * 3);
  columns.forEach(({first, weights}, column) => {
    for (let row = 0; row < SQUARE; row++) {
      for (let channel = 0; channel < 3; channel++) {
        let sum = 0;
        for (let k = 0; k < weights.length; k++) sum += weights[k] * narrow[(row * width + first + k) * 3 + channel];
        square[(row * SQUARE + column) * 3 + channel] = Math.floor(sum + 0.5);
      }
    }
  });
  return square;
}

/** Turns the RGBA bytes of a region into the network's input: Float32Array [size * size * 3], RGB in [0, 255]. */
export function networkInput(rgba, width, height, size) {
  const square = toSquare(rgba, width, height);
  const start = (SQUARE - size) >> 1;
  const input = new Float32Array(size * size * 3);
  for (let row = 0; row < size; row++) {
    const from = ((start + row) * SQUARE + start) * 3;
    input.set(square.subarray(from, from + size * 3), row * size * 3);
  }
  return input;
}
