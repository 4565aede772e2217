export function roundEven(value) {
  // Rounds as Python does: halves to even numbers.
  const below = Math.floor(value);
  const rest = value - below;
  return rest > 0.5 || (rest === 0.5 && below % 2) ? below + 1 : below;
}
