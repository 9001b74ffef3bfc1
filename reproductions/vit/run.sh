# The pair at full length: CIFAR-100, 100 epochs each. From the repository's root; the same command goes on where it stopped.
#   DATA=hf/uoft-cs/cifar100 EPOCHS=100 LIMIT=10000 sh reproductions/vit/run.sh
# What is committed here was measured with EPOCHS=6 LIMIT=600 REPEATS=2 HOLD="--pictures 300 --test_pictures 100".
set -e
DATA=${DATA:-hf/uoft-cs/cifar100}
for name in learned none; do
  whatwhere train --model reproductions.vit.networks:$name --recipe vit --epochs "${EPOCHS:-100}" --data "$DATA" --out runs/vit-$name
  given="--model reproductions.vit.networks:$name --weights runs/vit-$name/weights.safetensors --data $DATA"
  methods=per-channel,shared,mean,merge-2,prefix-mean,prefix-swap
  [ $name = learned ] && methods=$methods,embedding-zero,embedding-mean,embedding-permute
  whatwhere need curve $given --methods $methods --repeats "${REPEATS:-10}" --limit "${LIMIT:-10000}" --batch_size 100 --out reproductions/vit/need-$name
  whatwhere hold readout $given --sites cuts --targets H,G --kernels 1 --size 8 --untrained 2 --paddings "[]" --blanks "[]" ${HOLD:-} --out reproductions/vit/hold-$name
done
