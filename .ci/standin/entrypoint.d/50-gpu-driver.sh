if [[ ! -e /proc/driver/nvidia/version && ! -e /dev/dxg ]]; then
  echo "WARNING: no NVIDIA driver here; GPU functions are not available."
  export NVIDIA_CPU_ONLY=1
fi
