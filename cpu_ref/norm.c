/* References: per-channel sums, bias and batch normalisation (Ioffe and Szegedy, 2015). Maps are seen as [rows, C]
 * with rows = N * H * W; xhat = (x - mean) / sqrt(var + epsilon), var the biased variance. */
#include "cpu_ref/index.h"
#include "cpu_ref/ref.h"

#include <math.h>

/* y[row][c] = x[row][c] + bias[c] */
qe_status qe_ref_bias_add(const qe_call *call) {
  int64_t rows = rows_of(desc_of(call, 0)), channels = desc_of(call, 0)->dim[QE_C];
  const float *x = f32_of(call, 0), *bias = f32_of(call, 1);
  float *y = f32_of(call, 2);
  for (int64_t row = 0; row < rows; row++)
    for (int64_t c = 0; c < channels; c++) y[row * channels + c] = x[row * channels + c] + bias[c];
  return QE_OK;
}

static double column_sum(const float *x, int64_t rows, int64_t channels, int64_t c) {
  double sum = 0;
  for (int64_t row = 0; row < rows; row++) sum += (double)x[row * channels + c];
  return sum;
}

/* sum[c] = sum over rows of x[row][c]; also the gradient of bias_add's bias */
qe_status qe_ref_channel_sum(const qe_call *call) {
  int64_t rows = rows_of(desc_of(call, 0)), channels = desc_of(call, 0)->dim[QE_C];
  for (int64_t c = 0; c < channels; c++) f32_of(call, 1)[c] = (float)column_sum(f32_of(call, 0), rows, channels, c);
  return QE_OK;
}

/* mean[c] and the biased variance var[c] = mean over rows of (x - mean)^2, in two passes */
qe_status qe_ref_bn_stats(const qe_call *call) {
  int64_t rows = rows_of(desc_of(call, 0)), channels = desc_of(call, 0)->dim[QE_C];
  const float *x = f32_of(call, 0);
  for (int64_t c = 0; c < channels; c++) {
    double mean = column_sum(x, rows, channels, c) / (double)rows, squares = 0;
    for (int64_t row = 0; row < rows; row++) {
      double deviation = (double)x[row * channels + c] - mean;
      squares += deviation * deviation;
    }
    f32_of(call, 1)[c] = (float)mean;
    f32_of(call, 2)[c] = (float)(squares / (double)rows);
  }
  return QE_OK;
}

/* running = (1 - momentum) * running + momentum * batch, where the batch variance enters unbiased: var * n / (n - 1),
 * n = N * H * W of operand x, whose memory is not read (n = 1: var itself) */
qe_status qe_ref_bn_running(const qe_call *call) {
  double n = (double)rows_of(desc_of(call, 0)), momentum = (double)call->attrs.momentum;
  double unbias = n > 1 ? n / (n - 1) : 1;
  const float *mean = f32_of(call, 1), *var = f32_of(call, 2);
  float *running_mean = f32_of(call, 3), *running_var = f32_of(call, 4);
  for (int64_t c = 0; c < desc_of(call, 1)->dim[QE_C]; c++) {
    running_mean[c] = (float)((1 - momentum) * (double)running_mean[c] + momentum * (double)mean[c]);
    running_var[c] = (float)((1 - momentum) * (double)running_var[c] + momentum * unbias * (double)var[c]);
  }
  return QE_OK;
}

/* 1 / sqrt(var + epsilon) */
static double inverse_deviation(const qe_call *call, const float *var, int64_t c) {
  return 1 / sqrt((double)var[c] + (double)call->attrs.epsilon);
}

/* y = xhat * gamma + beta, with the mean and variance given (the batch's in training, the running ones afterwards) */
qe_status qe_ref_bn_norm(const qe_call *call) {
  int64_t rows = rows_of(desc_of(call, 0)), channels = desc_of(call, 0)->dim[QE_C];
  const float *x = f32_of(call, 0), *mean = f32_of(call, 1), *var = f32_of(call, 2);
  const float *gamma = f32_of(call, 3), *beta = f32_of(call, 4);
  float *y = f32_of(call, 5);
  for (int64_t c = 0; c < channels; c++) {
    double scale = inverse_deviation(call, var, c) * (double)gamma[c];
    for (int64_t row = 0; row < rows; row++) {
      int64_t k = row * channels + c;
      y[k] = (float)(((double)x[k] - (double)mean[c]) * scale + (double)beta[c]);
    }
  }
  return QE_OK;
}

/* dgamma[c] = sum over rows of dy * xhat, dbeta[c] = sum over rows of dy */
qe_status qe_ref_bn_grad_sums(const qe_call *call) {
  int64_t rows = rows_of(desc_of(call, 1)), channels = desc_of(call, 1)->dim[QE_C];
  const float *dy = f32_of(call, 0), *x = f32_of(call, 1), *mean = f32_of(call, 2), *var = f32_of(call, 3);
  for (int64_t c = 0; c < channels; c++) {
    double scale = inverse_deviation(call, var, c), dgamma = 0;
    for (int64_t row = 0; row < rows; row++) {
      int64_t k = row * channels + c;
      dgamma += (double)dy[k] * ((double)x[k] - (double)mean[c]) * scale;
    }
    f32_of(call, 4)[c] = (float)dgamma;
    f32_of(call, 5)[c] = (float)column_sum(dy, rows, channels, c);
  }
  return QE_OK;
}

/* Training mode, through the batch's mean and variance, n = rows:
 * dx = gamma / sqrt(var + epsilon) * (dy - dbeta / n - xhat * dgamma / n) */
qe_status qe_ref_bn_grad_x(const qe_call *call) {
  int64_t rows = rows_of(desc_of(call, 1)), channels = desc_of(call, 1)->dim[QE_C];
  const float *dy = f32_of(call, 0), *x = f32_of(call, 1), *mean = f32_of(call, 2), *var = f32_of(call, 3);
  const float *gamma = f32_of(call, 4), *dgamma = f32_of(call, 5), *dbeta = f32_of(call, 6);
  float *dx = f32_of(call, 7);
  for (int64_t c = 0; c < channels; c++) {
    double scale = inverse_deviation(call, var, c), n = (double)rows;
    for (int64_t row = 0; row < rows; row++) {
      int64_t k = row * channels + c;
      double xhat = ((double)x[k] - (double)mean[c]) * scale;
      dx[k] = (float)((double)gamma[c] * scale * ((double)dy[k] - (double)dbeta[c] / n - xhat * (double)dgamma[c] / n));
    }
  }
  return QE_OK;
}
