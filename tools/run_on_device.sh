#!/usr/bin/env bash
# Runs a bundle's model on a device, pulls what it computed, and verifies it against the host.
#
#   tools/run_on_device.sh --bundle DIR --delegate nnapi --adb --benchmark_model FILE --output_dir OUT
#   tools/run_on_device.sh --bundle DIR --delegate cpu --ssh pi@host --benchmark_model FILE --output_dir OUT
#   tools/run_on_device.sh --bundle DIR --delegate cpu --ssh pi@host --python venv/bin/python --output_dir OUT
#
# --benchmark_model: TensorFlow Lite's own program, for the device (android_aarch64 or linux_aarch64): Android has no
#     Python. It computes the logits of the first --num_questions (20) questions, and prints what its delegate took:
#     fewer nodes than bundle.json promises is a failure.
# --python: instead, on ARM Linux, a Python with the kit's [runtime]. It answers the questions by itself; what the
#     delegate took, it does not print.
# Several Android devices: set ANDROID_SERIAL, as for adb. PYTHON: the host's, with the kit's [runtime].
#
# Exit codes: 0 the device answers as the host does; 2 wrong flags or input; 3 it does not, or was lost on the way.
# OUT appears at the end, whole, or not at all. Its transports were tested with stand-ins for adb and ssh; no run on
# hardware is recorded yet.
set -euo pipefail

bundle='' delegate='' transport='' host='' benchmark_model='' device_python='' output_dir='' questions=20
here=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
python=${PYTHON:-$(if [ -x "$here/.venv/bin/python" ]; then echo "$here/.venv/bin/python"; else echo python3; fi)}
export PYTHONPATH=$here${PYTHONPATH:+:$PYTHONPATH}

die() { # code, message
	echo "error: $2" >&2
	exit "$1"
}

while [ $# -gt 0 ]; do
	case $1 in
	--help) sed -n '2,/^set /s/^# \{0,1\}//p' "${BASH_SOURCE[0]}" && exit 0 ;;
	--adb) transport=adb && shift && continue ;;
	--bundle | --delegate | --ssh | --benchmark_model | --python | --output_dir | --num_questions) ;;
	*) die 2 "Expected a flag that --help lists, got '$1'." ;;
	esac
	[ $# -ge 2 ] || die 2 "Expected a value after $1, got none."
	case $1 in
	--bundle) bundle=$2 ;;
	--delegate) delegate=$2 ;;
	--ssh) transport=ssh host=$2 ;;
	--benchmark_model) benchmark_model=$2 ;;
	--python) device_python=$2 ;;
	--output_dir) output_dir=$2 ;;
	--num_questions) questions=$2 ;;
	esac
	shift 2
done
[ -n "$bundle" ] && [ -n "$delegate" ] && [ -n "$output_dir" ] && [ -n "$transport" ] ||
	die 2 "Expected --bundle, --delegate, --output_dir, and --adb or --ssh HOST. See --help."
[ -n "$benchmark_model$device_python" ] || die 2 "Expected --benchmark_model, or with --ssh --python. See --help."
[ -z "$benchmark_model" ] || [ -z "$device_python" ] || die 2 "Expected --benchmark_model or --python, got both."
[ "$transport" = ssh ] || [ -z "$device_python" ] || die 2 "Expected --python with --ssh only: Android has none."
[ "$delegate" = cpu ] || [ -z "$device_python" ] || die 2 "Expected --delegate cpu with --python, got $delegate."
[ -z "$benchmark_model" ] || [ -f "$benchmark_model" ] || die 2 "Expected benchmark_model at $benchmark_model, got no file."
[ ! -e "$output_dir" ] || die 2 "$output_dir exists. Name another --output_dir."
[ -d "$(dirname "$output_dir")" ] || die 2 "Expected the folder of $output_dir to exist, got none."
for program in "$transport" "$python"; do
	command -v "$program" >/dev/null || die 2 "Expected $program on PATH, got none. Install it."
done

# The bundle must be whole before it goes anywhere.
"$python" -m mobilebert_kit.verify --manifest "$bundle" || exit $?
work=$(mktemp -d "$output_dir.XXXXXX") || die 2 "Expected to be able to write beside $output_dir."
remote=/tmp/mobilebert_kit.$$.$RANDOM
[ "$transport" = ssh ] || remote=/data/local$remote

on_device() { # a command line for the device's shell
	if [ "$transport" = adb ]; then adb shell "$1" </dev/null; else ssh -o BatchMode=yes "$host" "$1" </dev/null; fi
}
clean_up() {
	on_device "rm -rf $remote" >/dev/null 2>&1 || true
	rm -rf "$work"
}
trap clean_up EXIT
trap 'exit 130' INT TERM
lost() { die 3 "Expected the device to $1, got a failure: it was disconnected, or see above. Nothing was written."; }

mkdir "$work/device"
model=$("$python" "$here/tools/device_windows.py" name --bundle "$bundle" --delegate "$delegate") || exit $?
root=$bundle
[ -d "$root" ] || root=$(dirname "$bundle")
cp "$root/$model" "$work/device/"
if [ -n "$benchmark_model" ]; then
	"$python" "$here/tools/device_windows.py" write --bundle "$bundle" --delegate "$delegate" \
		--num_questions "$questions" --folder "$work/device" || exit $?
	cp "$benchmark_model" "$work/device/benchmark_model"
	chmod +x "$work/device/benchmark_model"
else
	# manifest.json tells the model's family; see mobilebert_kit/runtime/segments.py.
	cp "$root/vocab.txt" "$root/manifest.json" "$root"/mlperf/*.tfrecord "$work/device/"
	printf 'set -e\nmkdir -p out\n%s -m mobilebert_kit.evaluate --model %s --dataset squad_eval.tfrecord %s\n' \
		"$device_python" "$model" "--num_questions $questions --output out/predictions.json" >"$work/device/run.sh"
fi

if [ "$transport" = adb ]; then
	[ "$(adb get-state 2>/dev/null)" = device ] || die 2 "Expected one device that adb sees, got none. Try: adb devices"
	adb push "$work/device" "$remote" >/dev/null || lost "take the files"
else
	tar -C "$work/device" -cf - . | ssh -o BatchMode=yes "$host" "mkdir -p $remote && tar -C $remote -xf -" ||
		lost "take the files"
fi
on_device "cd $remote && sh run.sh" || lost "run the model"
if [ "$transport" = adb ]; then
	adb pull "$remote/out" "$work/device/" >/dev/null || lost "give the results"
else
	on_device "tar -C $remote -cf - out" | tar -C "$work/device" -xf - || lost "give the results"
fi

mkdir "$work/result"
if [ -n "$benchmark_model" ]; then
	"$python" "$here/tools/device_windows.py" collect --bundle "$bundle" --delegate "$delegate" \
		--num_questions "$questions" --folder "$work/device" || exit $?
	mv "$work/device/logits.bin" "$work/device/windows.json" "$work/result/"
	answers=$work/result
else
	[ -f "$work/device/out/predictions.json" ] || lost "give the results"
	mv "$work/device/out/predictions.json" "$work/result/"
	answers=$work/result/predictions.json
	echo "delegated    not checked: give --benchmark_model"
fi
"$python" -m mobilebert_kit.verify --manifest "$bundle" --predictions "$answers" --delegate "$delegate" \
	--num_questions "$questions" || exit $?
mv "$work/result" "$output_dir"
echo "kept in      $output_dir"
