if [[ $(df --output=size --block-size=1M /dev/shm 2>/dev/null | tail -1) -le 64 ]]; then
  echo "NOTE: The SHMEM allocation limit is set to the default of 64MB.  This may be insufficient for PyTorch.  Use the following flags:"
  echo "   docker run --gpus all --ipc=host --ulimit memlock=-1 --ulimit stack=67108864 ..."
fi
