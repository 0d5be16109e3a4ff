/* Tensors from text, for the readers of what is kept in safetensors files. */
#include "core/base/alloc.h"
#include "tests/fuzz/fuzz.h"

#include <string.h>

enum { BYTES_MOST = 1 << 20, NUMBERS_MOST = 64 };

/* The next word of the line, 0 behind it; "" at its end. */
static char *next_word(char **at) {
  *at += strspn(*at, " ");
  char *word = *at;
  *at += strcspn(*at, " ");
  if (**at) *(*at)++ = 0;
  return word;
}

static bool add_meta(qe_tensors *tensors, char *at) {
  const char *key = next_word(&at);
  char *to = at;
  for (const char *from = at; *from; from++) {
    bool line_break = from[0] == '\\' && from[1] == 'n';
    *to++ = line_break ? '\n' : *from;
    from += line_break;
  }
  *to = 0;
  return *key && qe_tensors_set_meta(tensors, key, at) == QE_OK;
}

static int read_shape(const char *text, int64_t *shape) {
  int rank = 0;
  for (char *end; *text && rank < QE_MAX_RANK; text = *end ? end + 1 : end) {
    shape[rank] = strtol(text, &end, 10);
    if (end == text || (*end && *end != 'x') || shape[rank] < 0 || shape[rank] > BYTES_MOST) return -1;
    rank++;
  }
  return *text ? -1 : rank;
}

static void fill(qe_named_tensor *tensor, const double *numbers, size_t count) {
  size_t size = qe_dtype_bytes(tensor->dtype);
  for (size_t i = 0; i < tensor->bytes / size; i++) {
    double number = numbers[i % count];
    int64_t whole = number >= -9e18 && number <= 9e18 ? (int64_t)number : 0;
    float real = (float)number;
    char *to = (char *)tensor->data + i * size;
    if (tensor->dtype == QE_F32)
      memcpy(to, &real, size);
    else
      memcpy(to, &whole, size); /* little-endian, as the format */
  }
}

static bool add_tensor(qe_tensors *tensors, char *at, size_t *total) {
  int64_t shape[QE_MAX_RANK];
  double numbers[NUMBERS_MOST] = {1};
  size_t count = 0, bytes;
  const char *name = next_word(&at);
  qe_dtype dtype = qe_safetensors_dtype_find(next_word(&at));
  int rank = read_shape(next_word(&at), shape);
  for (const char *word = next_word(&at); *word && count < NUMBERS_MOST; word = next_word(&at))
    numbers[count++] = strtod(word, NULL);
  if (dtype == QE_DTYPES || rank < 0 || !qe_tensor_bytes(dtype, rank, shape, &bytes)) return false;
  if (bytes > BYTES_MOST || (*total += bytes) > BYTES_MOST) return false;
  if (qe_tensors_add(tensors, name, dtype, rank, shape, NULL) != QE_OK) return false;
  fill(&tensors->items[tensors->count - 1], numbers, count ? count : 1);
  return true;
}

static bool add_line(qe_tensors *tensors, char *line, size_t *total) {
  const char *kind = next_word(&line);
  if (strcmp(kind, "meta") == 0) return add_meta(tensors, line);
  if (strcmp(kind, "tensor") == 0) return add_tensor(tensors, line, total);
  return *kind == 0;
}

qe_tensors *fuzz_tensors(const uint8_t *data, size_t size) {
  size_t total = 0;
  bool good = true;
  qe_tensors *tensors = qe_tensors_new();
  char *text = qe_alloc(size + 1), *rest = text;
  FUZZ_REQUIRE(tensors && text);
  if (size) memcpy(text, data, size);
  text[size] = 0;
  for (char *line; good && (line = strsep(&rest, "\n"));) good = add_line(tensors, line, &total);
  qe_free(text);
  if (good) return tensors;
  qe_tensors_free(tensors);
  return NULL;
}
