#!/bin/bash -eu
# One fuzzer for each target of tests/fuzz/targets.py, with the corpus of the repository.
cd "$SRC/overactivation"
pip3 install --require-hashes --requirement requirements-cpu.txt
pip3 install --no-deps .

for target in reader graphs replies; do
  cat > "$SRC/fuzz_$target.py" <<PYTHON
import sys
from fuzz.guided import main
sys.argv[1:1] = ["$target"]
main()
PYTHON
  compile_python_fuzzer "$SRC/fuzz_$target.py" --paths "$PWD:$PWD/tests" \
    --add-data "$PWD/tests/fuzz/corpus:fuzz/corpus" --collect-all onnx
  corpus=files
  if [ "$target" = replies ]; then corpus=replies; fi
  zip --quiet --junk-paths "$OUT/fuzz_${target}_seed_corpus.zip" "tests/fuzz/corpus/$corpus"/*
done
