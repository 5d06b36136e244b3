//! The other files' tests once more, in IEEE half precision.

use weft_worker::cuda::HalfFormat;

use crate::support::in_format;

macro_rules! in_fp16 {
    ($($file:ident { $($test:ident)* })*) => {
        $(mod $file {
            $(#[test]
            fn $test() {
                super::in_format(super::HalfFormat::F16, crate::$file::$test);
            })*
        })*
    };
}

in_fp16! {
    adamw { updates_equal_the_cpus_bit_by_bit }
    attention {
        attention_agrees_with_the_cpu_and_with_itself
        queries_may_be_the_last_of_more_keys
    }
    elementwise {
        rotation_agrees_with_the_cpu_both_ways
        gated_units_agree_with_the_cpu
        cross_entropy_agrees_with_the_cpu
    }
    exact {
        moves_of_rows_are_exact
        copies_go_where_they_were_sent_and_nowhere_else
        matrices_side_by_side_know_their_neighbours_and_their_tail
    }
    gemm {
        products_agree_with_the_cpu_however_operands_lie
        every_number_of_tokens_of_a_bucket_is_served
        a_product_may_write_matrices_side_by_side
        the_adapter_folds_into_the_frozen_product
    }
    gemv {
        a_vector_times_a_group_agrees_with_the_widened_matrices
        greedy_generation_follows_the_forward_over_the_whole_sequence
        the_likeliest_is_the_first_of_the_largest_and_nothing_is_where_one_is_not_finite
    }
    nf4 {
        nf4_dequantization_is_exact
        a_group_is_dequantized_with_its_adapters_on_the_diagonal
        a_dense_matrix_is_copied_from_among_other_columns
    }
    norm {
        norms_agree_with_the_cpu_at_every_width
        packed_rows_and_rows_with_gaps_give_the_same_bits
    }
    pass {
        loss_and_every_gradient_agree_with_the_cpu
        gemma_s_conventions_and_wide_heads_agree_too
        linears_without_an_adapter_stand_beside_those_with_one
        every_memory_plan_and_every_repetition_gives_the_same_bits
        a_pass_that_ran_before_gives_what_a_fresh_one_gives
    }
}
