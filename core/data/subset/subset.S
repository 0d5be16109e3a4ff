/* The mosaics of the built-in CIFAR-10 subset as read-only bytes of the library, and how many bytes each has.
 * The assembler finds them from the root of the source tree, which is on the include path (-I). */
  .section .rodata

  .globl qe_subset_train_png
  .hidden qe_subset_train_png
  .type qe_subset_train_png, %object
  .balign 16
qe_subset_train_png:
  .incbin "core/data/subset/cifar10-train.png"
train_end:
  .size qe_subset_train_png, train_end - qe_subset_train_png

  .globl qe_subset_test_png
  .hidden qe_subset_test_png
  .type qe_subset_test_png, %object
  .balign 16
qe_subset_test_png:
  .incbin "core/data/subset/cifar10-test.png"
test_end:
  .size qe_subset_test_png, test_end - qe_subset_test_png

  .globl qe_subset_png_bytes
  .hidden qe_subset_png_bytes
  .type qe_subset_png_bytes, %object
  .balign 8
qe_subset_png_bytes:
  .quad train_end - qe_subset_train_png
  .quad test_end - qe_subset_test_png
  .size qe_subset_png_bytes, 16

  .section .note.GNU-stack, "", %progbits
