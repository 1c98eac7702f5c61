if [[ ! -e /proc/driver/nvidia/version && ! -e /dev/dxg ]]; then
  echo "WARNING: The NVIDIA Driver was not detected.  GPU functionality will not be available."
  export NVIDIA_CPU_ONLY=1
fi
