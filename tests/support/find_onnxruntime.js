// Sets `found` to the name of an installed onnxruntime; exits with 1 if there is none.
const found = ["onnxruntime-node", "onnxruntime-web"].find((name) => {
  try { require.resolve(name); return true; } catch { return false; }
});
if (!found) process.exit(1);
