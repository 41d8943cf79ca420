"""One linear SVM per class with hard negative mining, or the fine-tuned network's own softmax (paper 2.3, app. B)."""
