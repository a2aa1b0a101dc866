// DeepseekV3: V3, R1, V3.1, and the base of V3.2.
#pragma once

#include "model/mla_decoder.h"

namespace fathom {

class DeepseekV3 : public MlaDecoder {
 public:
  using MlaDecoder::MlaDecoder;
  Status load_v3(const ModelFiles& files);
  TensorView mtp_forward(const ModelContext& context, const Step& step,
                         const TensorView& hidden) const override;

 private:
  WeightView enorm_, hnorm_;     // [hidden]
  WeightView eh_proj_;           // [hidden, 2 * hidden]: embedding half first
  WeightView shared_head_norm_;  // [hidden]
};

}  // namespace fathom
