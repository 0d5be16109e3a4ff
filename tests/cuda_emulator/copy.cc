/* cp.async: a thread's copies are made by the wait that covers them, so that a missing wait shows. */
#include "tests/cuda_emulator/block.h"

#include <cstring>

namespace {

void add(void *shared, const void *global, int bytes, int zeros) {
  auto whole = static_cast<uintptr_t>(bytes + zeros);
  if (reinterpret_cast<uintptr_t>(shared) % whole || (bytes && reinterpret_cast<uintptr_t>(global) % whole))
    block_fail("cp.async of %d bytes at an address that is not a multiple of that", static_cast<int>(whole));
  block_now->copies.push_back({shared, global, bytes, zeros, block_now->copy_groups});
}

void make(int groups_done) {
  auto &copies = block_now->copies;
  size_t left = 0;
  for (const async_copy &copy : copies) {
    if (copy.group >= groups_done) {
      copies[left++] = copy;
      continue;
    }
    memcpy(copy.shared, copy.global, static_cast<size_t>(copy.bytes));
    memset(static_cast<char *>(copy.shared) + copy.bytes, 0, static_cast<size_t>(copy.zeros));
  }
  copies.resize(left);
}

} // namespace

void emulated_copy_async4(void *shared, const void *global) {
  add(shared, global, 4, 0);
}

void emulated_copy_async8(void *shared, const void *global) {
  add(shared, global, 8, 0);
}

void emulated_copy_async16(void *shared, const void *global) {
  add(shared, global, 16, 0);
}

void emulated_copy_async16_partial(void *shared, const void *global, int bytes) {
  if (bytes < 0 || bytes > 16) block_fail("cp.async of 16 bytes with a source of %d", bytes);
  add(shared, global, bytes, 16 - bytes);
}

void emulated_copy_async_commit() {
  block_now->copy_groups++;
}

void emulated_copy_async_wait(int groups) {
  make(block_now->copy_groups - groups);
}

void emulated_copy_async_wait_all() {
  make(block_now->copy_groups + 1);
}
