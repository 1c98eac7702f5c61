"""The project of the demonstration: train a YOLO on your own data."""

from ultralytics import YOLO

if __name__ == "__main__":
    YOLO("yolov8n.yaml").train(data="data.yaml", epochs=100)
