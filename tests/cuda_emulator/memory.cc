/* Allocations end at pages that cannot be touched, as near as alignment lets them; what is left between shows writes by
 * a pattern. */
#include "tests/cuda_emulator/memory.h"

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <map>

#include <sys/mman.h>
#include <unistd.h>

struct allocation {
  unsigned char *map;
  size_t map_bytes, bytes;
};

struct memory_space {
  std::map<uintptr_t, allocation> live; /* by first byte */
  size_t used, limit;
};

namespace {

enum { ALIGNMENT = 256, PATTERN = 0x9d };

size_t limit_from_environment() {
  const char *text = getenv("EMULATED_CUDA_MEMORY");
  return text && text[0] ? strtoull(text, nullptr, 10) : size_t{1} << 30;
}

/* Never destroyed: what runs at the end of the process may still free. */
memory_space &device = *new memory_space{{}, 0, 0};
memory_space &pinned = *new memory_space{{}, 0, SIZE_MAX};

size_t page() {
  static const auto bytes = static_cast<size_t>(sysconf(_SC_PAGESIZE));
  return bytes;
}

size_t round_up(size_t value, size_t to) {
  return (value + to - 1) / to * to;
}

const allocation *find(const memory_space *space, const void *at, uintptr_t *start) {
  auto next = space->live.upper_bound(reinterpret_cast<uintptr_t>(at));
  if (next == space->live.begin()) return nullptr;
  --next;
  *start = next->first;
  return &next->second;
}

bool is_pattern(const unsigned char *from, const unsigned char *to) {
  for (; from < to; from++)
    if (*from != PATTERN) return false;
  return true;
}

/* Guard zones of an allocation that starts at `start`: at most ALIGNMENT bytes in front (a page cannot be touched
 * before them) and the rest of the last page. */
bool check(uintptr_t start, const allocation &of, std::string *damage) {
  auto *data = reinterpret_cast<unsigned char *>(start);
  unsigned char *first = of.map + page(), *last = of.map + of.map_bytes - page(), *end = data + of.bytes;
  if (data - first > ALIGNMENT) first = data - ALIGNMENT;
  bool before = is_pattern(first, data), behind = is_pattern(end, last);
  if (before && behind) return true;
  memset(first, PATTERN, static_cast<size_t>(data - first));
  memset(end, PATTERN, static_cast<size_t>(last - end));
  char text[128];
  snprintf(text, sizeof text, "wrote %s an allocation of %zu bytes", before ? "behind" : "in front of", of.bytes);
  *damage = text;
  return false;
}

} // namespace

memory_space *const memory_device = &device, *const memory_pinned = &pinned;

void *memory_new(memory_space *space, size_t bytes) {
  if (bytes > memory_limit(space) - space->used) return nullptr;
  size_t inner = round_up(bytes, page()), whole = inner + 2 * page();
  void *map = mmap(nullptr, whole, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (map == MAP_FAILED) return nullptr;
  auto *base = static_cast<unsigned char *>(map), *end = base + whole - page();
  mprotect(base, page(), PROT_NONE);
  mprotect(end, page(), PROT_NONE);
  unsigned char *data = end - round_up(bytes, ALIGNMENT);
  memset(base + page(), PATTERN, static_cast<size_t>(data - base) - page());
  memset(data, MEMORY_GARBAGE, bytes);
  memset(data + bytes, PATTERN, static_cast<size_t>(end - data) - bytes);
  space->live[reinterpret_cast<uintptr_t>(data)] = {base, whole, bytes};
  space->used += bytes;
  return data;
}

bool memory_free(memory_space *space, void *at) {
  auto found = space->live.find(reinterpret_cast<uintptr_t>(at));
  if (found == space->live.end()) return false;
  munmap(found->second.map, found->second.map_bytes);
  space->used -= found->second.bytes;
  space->live.erase(found);
  return true;
}

void memory_clear(memory_space *space) {
  while (!space->live.empty()) memory_free(space, reinterpret_cast<void *>(space->live.begin()->first));
}

bool memory_holds(const memory_space *space, const void *at, size_t bytes) {
  uintptr_t start = 0, place = reinterpret_cast<uintptr_t>(at);
  const allocation *of = find(space, at, &start);
  return of && bytes <= of->bytes && place - start <= of->bytes - bytes;
}

size_t memory_used(const memory_space *space) {
  return space->used;
}

size_t memory_count(const memory_space *space) {
  return space->live.size();
}

size_t memory_limit(memory_space *space) {
  if (!space->limit) space->limit = limit_from_environment();
  return space->limit;
}

std::string memory_damage() {
  std::string damage;
  for (const memory_space *space : {&device, &pinned})
    for (const auto &[start, of] : space->live) check(start, of, &damage);
  return damage;
}

const char *memory_describe(const void *at) {
  static char text[160];
  uintptr_t place = reinterpret_cast<uintptr_t>(at);
  for (const memory_space *space : {&device, &pinned}) {
    uintptr_t start = 0;
    const allocation *of = find(space, at, &start);
    if (of && place < reinterpret_cast<uintptr_t>(of->map) + of->map_bytes) {
      snprintf(text, sizeof text, "%zu bytes behind the end of an allocation of %zu bytes", place - start - of->bytes,
               of->bytes);
      return text;
    }
    auto next = space->live.upper_bound(place);
    if (next == space->live.end() || place < reinterpret_cast<uintptr_t>(next->second.map)) continue;
    snprintf(text, sizeof text, "%zu bytes in front of an allocation of %zu bytes", next->first - place,
             next->second.bytes);
    return text;
  }
  return "outside all memory (freed, null, or a thread's stack)";
}
